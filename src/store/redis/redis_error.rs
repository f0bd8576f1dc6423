//! What an error of Redis asks for.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// The store's error for an error of Redis: one that somebody has to mend, or one that may pass by itself.
pub(super) fn redis_error(error: &RedisError) -> StoreError {
    let lasting = match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::UnexpectedReturnType => true,
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        _ => matches!(error.code(), Some("WRONGTYPE" | "NOAUTH" | "WRONGPASS" | "NOPERM")),
    };
    let text = match error.kind() {
        // Their own text shows the response, which may hold a token.
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => "Redis: an answer that makes no sense".to_owned(),
        ErrorKind::Server(ServerErrorKind::Moved) => {
            format!("Redis: {error}: this is a node of a cluster, see `RedisStore::cluster`")
        }
        _ => format!("Redis: {error}"),
    };
    if lasting { StoreError::unusable(text) } else { StoreError::unreachable(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FetchError, TokenError, store::StoreErrorKind};

    #[test]
    fn what_was_found_instead_is_not_repeated() {
        let found = redis::Value::BulkString(b"secret".to_vec());
        let error = redis::from_redis_value::<u64>(found).map_err(RedisError::from).unwrap_err();
        assert!(error.to_string().contains("secret"), "or this is about nothing: {error}");
        let error = redis_error(&error);
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    /// The password of a store is not the client's secret.
    #[test]
    fn whom_redis_refuses_reads_of_the_store_and_of_no_credentials() {
        for said in ["NOAUTH Authentication required.", "WRONGPASS invalid username-password pair", "NOPERM no rights"]
        {
            let (code, detail) = said.split_once(' ').unwrap();
            let refused = redis::make_extension_error(code.to_owned(), Some(detail.to_owned()));
            for error in [refused, RedisError::from((ErrorKind::AuthenticationFailed, "refused"))] {
                let error = redis_error(&error);
                assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
                let error = TokenError::new(crate::ErrorKind::Rejected, Some(FetchError::from(error))).to_string();
                assert!(error.contains("the token store can't be used: Redis: "), "{error}");
                assert!(!error.contains("credentials"), "{error}");
            }
        }
    }

    #[test]
    fn who_asks_a_node_of_a_cluster_is_told_what_to_call() {
        let moved = redis::parse_redis_value(b"-MOVED 3999 10.0.0.2:7001\r\n").unwrap().extract_error().unwrap_err();
        let error = redis_error(&moved).to_string();
        assert!(error.contains("10.0.0.2:7001") && error.contains("RedisStore::cluster"), "{error}");
    }

    #[test]
    fn what_another_server_may_do_is_worth_another_try() {
        use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, Moved, NoPerm, ReadOnly, TryAgain};
        let kind = |kind: ErrorKind| redis_error(&RedisError::from((kind, "said"))).kind();
        for passing in [BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain] {
            assert_eq!(kind(passing.into()), StoreErrorKind::Unreachable, "{passing:?}");
        }
        assert_eq!(kind(ErrorKind::Io), StoreErrorKind::Unreachable);
        for lasting in [NoPerm.into(), ErrorKind::AuthenticationFailed] {
            assert_eq!(kind(lasting), StoreErrorKind::Unusable, "{lasting:?}");
        }
    }
}
