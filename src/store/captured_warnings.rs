//! For tests of stores: what is told at the level warn.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tracing::{Event, Level, Metadata, Subscriber, field::Field, span};

/// Collects this crate's events of the level warn, as text.
#[derive(Clone, Default)]
pub(super) struct Warned(Arc<Mutex<Vec<String>>>);

impl Warned {
    pub(super) fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Subscriber for Warned {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() == Level::WARN && about.target().starts_with("tower_bearer")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| text += &format!("{field}={value:?} "));
        self.0.lock().unwrap().push(text);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
