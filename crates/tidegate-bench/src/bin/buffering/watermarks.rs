//! What the high-water mark, and a bound on what waits in the kernel, do to throughput and to the
//! age of a message on arrival.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tidegate::{Closed, ConnectOptions, EventLoop, Flow, Protocol, Result, Transport, WriteLimits};
use tidegate_bench::statistics::{median, quantile};

const HIGH: [usize; 4] = [0, 16 << 10, 64 << 10, 1 << 20];
/// Of the kernel, where it is set.
const UNSENT: u32 = 16 << 10;
/// Bytes a second of the slow reader.
const TAKEN: f64 = 32.0 * 1_048_576.0;
const MESSAGE: usize = 4096;
/// Messages in a turn of the loop.
const AT_ONCE: usize = 64;

/// A combination of the two, and what came of it in each round.
pub(crate) struct Setting {
    pub(crate) high: usize,
    pub(crate) unsent: Option<u32>,
    /// Bytes a second.
    throughputs: Vec<f64>,
    /// Seconds, of all messages of all rounds.
    ages: Vec<f64>,
}

impl Setting {
    pub(crate) fn throughput(&self) -> f64 {
        median(&self.throughputs)
    }

    /// The age, in seconds, that the share `at` of the messages was below.
    pub(crate) fn age(&self, at: f64) -> f64 {
        quantile(&self.ages, at)
    }

    pub(crate) fn kernel(&self) -> &'static str {
        match self.unsent {
            None => "as the system likes",
            Some(_) => "about 16 KiB",
        }
    }
}

pub(crate) fn measure(rounds: usize, time: Duration) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for high in HIGH {
        for unsent in [None, Some(UNSENT)] {
            settings.push(Setting {
                high,
                unsent,
                throughputs: Vec::new(),
                ages: Vec::new(),
            });
        }
    }
    for round in 1..=rounds {
        for setting in &mut settings {
            eprintln!(
                "round {round}/{rounds}: high {}, unsent in the kernel: {}",
                setting.high,
                setting.kernel()
            );
            let (bytes, elapsed, _) = run(setting, time, None)?;
            setting
                .throughputs
                .push(bytes as f64 / elapsed.as_secs_f64());
            let (_, _, ages) = run(setting, time, Some(TAKEN))?;
            setting.ages.extend(ages);
        }
    }
    Ok(settings)
}

/// Bytes that were read, the time, and the ages of the messages.
type Taken = (u64, Duration, Vec<f64>);

fn run(setting: &Setting, time: Duration, rate: Option<f64>) -> io::Result<Taken> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let epoch = Instant::now();
    let reader = thread::spawn(move || -> io::Result<Taken> {
        let (stream, _) = listener.accept()?;
        read(stream, epoch, time, rate)
    });
    let mut event_loop = EventLoop::new()?;
    let limits = WriteLimits::new().with_high(setting.high);
    let options = ConnectOptions::new(address).write_limits(limits);
    let source = Source {
        epoch,
        unsent: setting.unsent,
    };
    let connection = event_loop.handle().create_connection(options, source);
    let transport = event_loop.run_until(connection)?;
    // Its end is the reader's.
    event_loop.run_until(transport.wait_closed())?;
    reader.join().expect("no panic")
}

/// Writes messages that begin with their time of birth, as long as it may.
struct Source {
    epoch: Instant,
    unsent: Option<u32>,
}

impl Source {
    fn produce(&mut self, transport: &Transport) -> Result {
        let mut message = [0; MESSAGE];
        for _ in 0..AT_ONCE {
            let born = self.epoch.elapsed().as_nanos() as u64;
            message[..8].copy_from_slice(&born.to_le_bytes());
            if transport.write(&message)? == Flow::Paused {
                return Ok(()); // `resume_writing` goes on.
            }
        }
        transport.call_soon(Self::produce);
        Ok(())
    }
}

impl Protocol for Source {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.set_unsent_low_water(self.unsent)?;
        self.produce(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.produce(transport)
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {}
}

/// Reads for a time, no faster than at `rate`. The first half fills the buffers and does not count.
fn read(
    mut stream: TcpStream,
    epoch: Instant,
    time: Duration,
    rate: Option<f64>,
) -> io::Result<Taken> {
    let mut ages = Vec::new();
    let mut buffer = vec![0; if rate.is_some() { MESSAGE } else { 64 << 10 }];
    let (start, mut counted, mut total) = (Instant::now(), 0, 0_u64);
    while start.elapsed() < time {
        let before = total;
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(total as f64 / rate);
            if let Some(early) = due.checked_sub(start.elapsed())
                && early > Duration::from_millis(1)
            {
                thread::sleep(early);
            }
            stream.read_exact(&mut buffer)?;
            total += buffer.len() as u64;
        } else {
            let len = stream.read(&mut buffer)? as u64;
            if len == 0 {
                return Err(io::Error::other("the source has ended"));
            }
            total += len;
        }
        if start.elapsed() < time / 2 {
            continue;
        }
        counted += total - before;
        if rate.is_some() {
            let born = u64::from_le_bytes(buffer[..8].try_into().expect("eight bytes"));
            let age = epoch.elapsed().saturating_sub(Duration::from_nanos(born));
            ages.push(age.as_secs_f64());
        }
    }
    Ok((counted, start.elapsed() - time / 2, ages))
}
