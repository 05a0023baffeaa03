//! Calls plugins as a runtime does, one or many at a time, and checks what came of it.

mod answer;
mod burst;
mod peak;
mod process;
mod stream;
mod subject;
mod verify;

pub(crate) use answer::addresses_of;
pub(crate) use burst::run as all;
pub(crate) use peak::{of_one_call as peak_of_one_call, status_kib};
pub(crate) use process::run as run_process;
pub(crate) use stream::{Slice, open as open_stream, per_second, round_trip};
pub(crate) use subject::{APPS, Answer, Plugin, Subject, Verb};
pub(crate) use verify::{Checked, attached, detached};
