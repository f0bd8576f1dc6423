//! Without the feature `metrics`: does nothing.

use std::time::Duration;

use super::{Gauges, Telemetry};

pub(super) const BEAT: Option<Duration> = None;

pub(super) fn begin(_: &Telemetry) {}

pub(super) fn set(_: &Telemetry, _: &Gauges) {}

pub(super) fn leave(_: &Telemetry) {}

pub(super) fn fetched(_: &Telemetry, _outcome: &'static str, _took: Duration) {}

pub(super) fn waited(_: &Telemetry, _why: &'static str, _ended: &'static str, _waited: Duration) {}

pub(super) fn refused(_: &Telemetry) {}

pub(super) fn recovered(_: &Telemetry) {}
