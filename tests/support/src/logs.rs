//! One logger for all tests of a process, which keeps apart what each thread logs: a loop logs on
//! its own thread, so a test sees what its loop logged and nothing else.

use log::{Level, LevelFilter, Metadata, Record};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests take it apart")]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// Its target.
    pub target: String,
    /// Its text.
    pub text: String,
}

type Sink = Rc<dyn Fn(&Record<'_>)>;

thread_local! {
    static LEVEL: Cell<LevelFilter> = const { Cell::new(LevelFilter::Off) };
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

struct ByThread;

impl log::Log for ByThread {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LEVEL.get()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata())
            && let Ok(Some(sink)) = SINK.try_with(|sink| sink.borrow().clone())
        {
            sink(record);
        }
    }

    fn flush(&self) {}
}

/// Calls `sink` for each line of this thread from now on, up to a level.
pub fn log_to(level: LevelFilter, sink: impl Fn(&Record<'_>) + 'static) {
    // It is set already when another test was faster.
    let _ = log::set_logger(&ByThread);
    log::set_max_level(LevelFilter::Trace);
    LEVEL.set(level);
    SINK.set(Some(Rc::new(sink)));
}

/// Keeps the lines of this thread from now on, up to a level, for [`logged`].
pub fn keep_log(level: LevelFilter) {
    LINES.take();
    log_to(level, |record| {
        let line = Line {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
        };
        LINES.with_borrow_mut(|lines| lines.push(line));
    });
}

/// Takes the lines that were kept since the last call.
pub fn logged() -> Vec<Line> {
    LINES.take()
}
