CREATE TABLE IF NOT EXISTS tower_bearer_token (
    key          text PRIMARY KEY,
    version      bigint NOT NULL,
    data         bytea,
    stored_at    timestamptz,
    holder       text,
    leased_until timestamptz
)
