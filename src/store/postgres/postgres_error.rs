//! What an error of PostgreSQL, or of its pool, asks for.

use sqlx::Error;

use crate::store::StoreError;

/// The store's error for this one: one that somebody has to mend, or one that may pass by itself.
pub(super) fn postgres_error(error: &Error) -> StoreError {
    match error {
        Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Its detail may show a row, so the message is enough.
            let text = format!("PostgreSQL: {} (SQLSTATE {code})", error.message());
            match &*code {
                "42P01" | "42703" | "3F000" => StoreError::unusable(format!(
                    "{text}: run PostgresStore::migrate, or create the table as PostgresStore::SCHEMA says. \
                     If it is there: is its schema in the search path of this role? PostgresStore::table names one"
                )),
                code if is_lasting(code) => StoreError::unusable(text),
                _ => StoreError::unreachable(text),
            }
        }
        Error::Io(error) => StoreError::unreachable(format!("PostgreSQL: {error}")),
        Error::Tls(error) => StoreError::unreachable(format!("PostgreSQL: TLS: {error}")),
        Error::PoolTimedOut => StoreError::unreachable("PostgreSQL: the pool gave no connection in time"),
        Error::PoolClosed => StoreError::unusable("PostgreSQL: the pool is closed"),
        Error::Configuration(error) => StoreError::unusable(format!("PostgreSQL: {error}")),
        // Text of the protocol may be anything.
        Error::Protocol(_) | Error::WorkerCrashed | Error::BeginFailed => {
            StoreError::unreachable("PostgreSQL: an answer that makes no sense")
        }
        // The text of the others may show what was found.
        _ => StoreError::unusable(
            "PostgreSQL: an answer that makes no sense: are the columns those of PostgresStore::SCHEMA?",
        ),
    }
}

/// The same for the migration, which nobody should be told to run.
pub(super) fn migration_error(error: &Error) -> StoreError {
    if has_code(error, |code| code == "3F000") {
        StoreError::unusable("PostgreSQL: the search path of this role has no schema for the table (SQLSTATE 3F000)")
    } else {
        postgres_error(error)
    }
}

/// Whether PostgreSQL refused the statement, and the same one may work at once: in another connection, or after another's statement.
pub(super) fn is_refused(error: &Error) -> bool {
    is_read_only(error) || has_code(error, |code| matches!(code, "40001" | "40P01"))
}

/// Whether this connection leads to a server that doesn't write (any more).
pub(super) fn is_read_only(error: &Error) -> bool {
    has_code(error, |code| code == "25006")
}

/// Whether the connection can be used on.
pub(super) fn leaves_a_connection(error: &Error) -> bool {
    // 57P: the server ends the connection. 25P: so it does with what stood still in a transaction.
    has_code(error, |code| code != "25006" && !["57P", "25P", "08"].iter().any(|class| code.starts_with(class)))
}

fn has_code(error: &Error, is: impl FnOnce(&str) -> bool) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| is(&code))
}

/// By the class of the code: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn is_lasting(code: &str) -> bool {
    const CLASSES: [&str; 8] = [
        "0A", // feature not supported
        "22", // data, such as a name with a zero byte
        "23", // a constraint of the user's own
        "28", // name or password
        "3D", // no such database
        "3F", // no such schema
        "42", // no rights, no table, another table
        "54", // a limit, such as that of an index
    ];
    CLASSES.iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error, fmt, io};

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;
    use crate::store::StoreErrorKind;

    #[derive(Debug)]
    struct Said(&'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it is said; detail: marked-secret")
        }
    }

    impl error::Error for Said {}

    impl DatabaseError for Said {
        fn message(&self) -> &str {
            "it is said"
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn said(code: &'static str) -> Error {
        Error::Database(Box::new(Said(code)))
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_and_what_somebody_must_mend_says_so() {
        let passing = [
            "08006", "08P01", "25006", "25P03", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P01",
            "57P02", "57P03", "58030", "XX000", "",
        ];
        for code in passing {
            assert_eq!(postgres_error(&said(code)).kind(), StoreErrorKind::Unreachable, "{code}");
        }
        for code in ["0A000", "22021", "23514", "28000", "28P01", "3D000", "3F000", "42501", "42P01", "42703", "54000"]
        {
            assert_eq!(postgres_error(&said(code)).kind(), StoreErrorKind::Unusable, "{code}");
        }
        for error in [Error::PoolTimedOut, Error::Io(io::Error::other("gone")), Error::Protocol(String::new())] {
            assert_eq!(postgres_error(&error).kind(), StoreErrorKind::Unreachable, "{error}");
        }
        assert_eq!(postgres_error(&Error::PoolClosed).kind(), StoreErrorKind::Unusable);
    }

    #[test]
    fn who_lacks_the_table_reads_what_to_run() {
        for code in ["42P01", "42703", "3F000"] {
            let error = postgres_error(&said(code)).to_string();
            assert!(error.contains("run PostgresStore::migrate"), "{error}");
        }
        assert!(!postgres_error(&said("42501")).to_string().contains("migrate"));
        let error = migration_error(&said("3F000"));
        assert!(error.to_string().contains("search path") && !error.to_string().contains("run"), "{error}");
    }

    #[test]
    fn what_was_found_is_not_repeated() {
        let secret = || "marked-secret".into();
        let errors = [
            said("42P01"),
            said("57P01"),
            Error::Protocol("marked-secret".into()),
            Error::Decode(secret()),
            Error::ColumnDecode { index: "data".into(), source: secret() },
        ];
        for error in errors {
            assert!(error.to_string().contains("marked-secret"), "or this is about nothing: {error}");
            let error = postgres_error(&error);
            assert!(!format!("{error} {error:?}").contains("marked"), "{error:?}");
        }
    }

    #[test]
    fn a_connection_to_a_server_that_does_not_write_is_not_used_on() {
        for (code, refused, stays) in [
            ("25006", true, false),
            ("40001", true, true),
            ("42P01", false, true),
            ("57P01", false, false),
            ("25P03", false, false),
            ("08006", false, false),
        ] {
            assert_eq!((is_refused(&said(code)), leaves_a_connection(&said(code))), (refused, stays), "{code}");
        }
        assert!(!leaves_a_connection(&Error::Io(io::Error::other("gone"))));
    }
}
