//! The end of all loops: first those that accept, then the connections, then the threads.

use super::Workers;
use super::door::Door;
use super::thread::WorkerPanicked;
use super::worker::Home;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tidegate::{Completion, Handle, ShutdownReport};

impl Workers {
    /// Stops accepting, closes every connection of the servers gracefully, ends those that are left when `grace`
    /// is over, and ends the threads. Returns the sum of the reports of all servers, and the threads that had ended
    /// before.
    ///
    /// It blocks until all that is done. Connections in the backlog are served, and then closed as the others,
    /// also above a maximum. [`Server::shutdown`](tidegate::Server::shutdown) has the rest. Connections that belong
    /// to no server of these, such as [attached](Handle::attach) ones, end with their loop, behind the others. A
    /// loop that is held by a callback is waited for.
    pub fn shutdown(self, grace: Duration) -> (ShutdownReport, Vec<WorkerPanicked>) {
        for gate in self.gates().iter() {
            gate.open();
        }
        let mut sum = ShutdownReport::default();
        // Connections that these have given lie in the inboxes of the workers before the question below.
        for thread in self.accepting().drain(..) {
            let taken = thread.ask(|handle, told| {
                after_all(handle, Door::close_all(), Vec::new(), move |_, taken| {
                    let _ = told.send(taken.into_iter().sum::<usize>());
                });
            });
            sum.from_backlog += taken.recv().unwrap_or(0);
            thread.end();
        }
        let threads = self.take_threads();
        let asked: Vec<_> = threads
            .iter()
            .map(|thread| {
                thread.ask(move |handle, told| {
                    after_all(
                        handle,
                        Door::close_all(),
                        Vec::new(),
                        move |handle, taken| {
                            shut_down_made(handle, grace, taken.into_iter().sum(), told);
                        },
                    );
                })
            })
            .collect();
        // A worker that is gone has no report.
        for report in asked.iter().filter_map(|asked| asked.recv().ok()) {
            add(&mut sum, &report);
        }
        for thread in threads {
            thread.end();
        }
        (sum, self.panicked())
    }
}

/// Shuts the servers of the loop of this thread down, in its next tick: connections that came in this one have
/// had their `connection_made` then, so what they write there is sent before the close.
fn shut_down_made(
    handle: &Handle,
    grace: Duration,
    from_backlog: usize,
    told: Sender<ShutdownReport>,
) {
    handle.call_soon(move |handle| {
        let shutdowns = Home::shut_down_all(grace);
        after_all(handle, shutdowns, Vec::new(), move |_, reports| {
            let mut sum = ShutdownReport::default();
            sum.from_backlog = from_backlog;
            reports.iter().for_each(|report| add(&mut sum, report));
            // Somebody waits for it.
            let _ = told.send(sum);
        });
    });
}

/// Calls with the results, when all of these are complete. An error has no result.
fn after_all<T: 'static, F: FnOnce(&Handle, Vec<T>) + 'static>(
    handle: &Handle,
    mut waiting: Vec<Completion<T>>,
    mut results: Vec<T>,
    call: F,
) {
    match waiting.pop() {
        None => call(handle, results),
        Some(next) => next.then(move |handle, result| {
            results.extend(result);
            after_all(handle, waiting, results, call);
        }),
    }
}

fn add(sum: &mut ShutdownReport, report: &ShutdownReport) {
    sum.closed += report.closed;
    sum.aborted += report.aborted;
    sum.unsent += report.unsent;
    sum.from_backlog += report.from_backlog;
}
