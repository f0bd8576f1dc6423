//! Shows what is wrong with the store of `call` and `login`. A run may succeed although its store fails. Then only an event of `tracing`
//! says so, which most programs show by a subscriber of their own.

use std::{
    collections::HashSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Prints on stderr what goes wrong with the store, each thing once.
pub(crate) fn tell() {
    // An error means that there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(Teller::default());
}

#[derive(Default)]
struct Teller {
    told: Mutex<HashSet<String>>,
}

impl Subscriber for Teller {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_warning = metadata.is_event() && *metadata.level() <= Level::WARN;
        is_warning && metadata.target().starts_with("tower_bearer::oauth2::stored")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(line.0.clone()) {
            eprintln!("{}", line.0);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event, and then its other fields.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0 = format!("{value:?}{}", self.0),
            _ => self.0 += &format!(": {value:?}"),
        }
    }
}
