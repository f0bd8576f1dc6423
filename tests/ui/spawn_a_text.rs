//! A token as a text.

use tower_bearer::LiveToken;

fn main() {
    LiveToken::spawn(String::from("mF_9.B5f-4.1JqM"));
}
