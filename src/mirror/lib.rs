//! When and what to copy; how is [`transfer`].
//!
//! A [`Mirror`] is what an operator says: which tags of an upstream's repository, when, under which names. [`Mirrors`] are the mirrors
//! of a server as durable work: [`Mirrors::schedule`] submits a job at each time of a schedule, and the job copies tag by tag, each with
//! an outcome of its own. Dated tags are written only for new content and never moved; what a mirror remembers lies in [`Memories`].

mod live;
mod memory;
mod plan;
mod report;
mod retention;
mod run;
mod schedule;
mod scheduler;
mod settings;
mod template;
mod work;

pub use memory::{Dated, Known, Memories, Memory, MemoryError};
pub use report::{Report, TagOutcome, TagReport, Totals};
pub use run::{Bound, Pins, Untag, millis};
pub use schedule::{Schedule, ScheduleError};
pub use settings::{Mirror, SameDay};
pub use template::{Template, TemplateError};
pub use work::{ATTEMPTS, Input, KIND, Mirrors};
