//! asyncio's streams at the other end of ours, as client and as server.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use support::interop::{BLOCK, Caller, Noise, Program, Tally};
use support::{Kind, TempDir, drive, each_kind, strict_loop};
use tidegate::EventLoop;
use tidegate_streams::{
    ReadError, StreamReader, StreamWriter, open_connection, spawn, spawn_on, start_server_on,
};

/// 100 MB.
const LARGE: u64 = 100_000_000;

/// Both ends' default high-water mark, and the write that goes above it.
const MOST_BUFFERED: usize = 64 * 1024 + BLOCK;

/// The bytes that our end sent and got.
#[derive(Debug, Default)]
struct Record {
    sent: RefCell<Tally>,
    received: RefCell<Tally>,
    peak: Cell<usize>,
    is_over: Cell<bool>,
}

/// Runs one conversation; `ours` is our part of it, `role` that of asyncio.
fn meet<F>(kind: Kind, caller: Caller, role: &str, len: u64, ours: F) -> Meeting
where
    F: AsyncFn(StreamReader, StreamWriter, Rc<Record>) + 'static,
{
    println!("{kind:?}, {caller:?} call, asyncio plays {role}");
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let record: Rc<Record> = Rc::default();
    let noted = record.clone();
    let play = async move |reader, writer| {
        ours(reader, writer, noted.clone()).await;
        noted.is_over.set(true);
    };
    let bytes = len.to_string();
    let options = ["--api", "streams", "--bytes", &bytes];
    let at = kind.somewhere(&dir);
    let program = match caller {
        Caller::They => {
            let serve = async move |reader, writer| {
                play(reader, writer).await;
                Ok(())
            };
            let server = start_server_on(event_loop.handle(), at, serve).unwrap();
            let address = server.local_addrs()[0].to_string();
            Program::asyncio("connect", &address, role, &options)
        }
        Caller::We => {
            let mut program = Program::asyncio("serve", &at, role, &options);
            let address = program.expect(&mut event_loop, "listening on ");
            drop(spawn_on(event_loop.handle(), async move {
                let (reader, writer) = open_connection(address.as_str()).await.unwrap();
                play(reader, writer).await;
            }));
            program
        }
    };
    Meeting {
        event_loop,
        record,
        program,
        _dir: dir,
    }
}

struct Meeting {
    event_loop: EventLoop,
    record: Rc<Record>,
    program: Program,
    _dir: TempDir,
}

impl Meeting {
    /// Checks that both ended in peace, and each got the other's `bytes`, by their hash.
    #[track_caller]
    fn expect_equal(mut self, to_us: u64, from_us: u64) {
        let mut hear = |mark| self.program.expect(&mut self.event_loop, mark);
        let (sent, received) = (hear("sent "), hear("received "));
        let peak: usize = hear("peak ").parse().unwrap();
        assert_eq!(hear("end "), "eof");
        drive(&mut self.event_loop, "the end of our part", || {
            self.record.is_over.get()
        });
        self.program.expect_success(&mut self.event_loop);
        assert_eq!(sent, self.record.received.borrow().to_string());
        assert_eq!(received, self.record.sent.borrow().to_string());
        assert!(sent.starts_with(&format!("{to_us} ")), "{sent}");
        assert!(received.starts_with(&format!("{from_us} ")), "{received}");
        assert!(peak <= MOST_BUFFERED, "asyncio's buffer: {peak}");
        let peak = self.record.peak.get();
        assert!(peak <= MOST_BUFFERED, "our buffer: {peak}");
    }
}

fn note(record: &Record, writer: &StreamWriter, data: &[u8]) {
    record.sent.borrow_mut().add(data);
    let peak = writer.transport().write_buffer_size();
    record.peak.set(record.peak.get().max(peak));
}

async fn send(writer: &StreamWriter, record: &Record, len: u64) {
    for data in Noise::new(!len).blocks(len) {
        writer.write(&data).unwrap();
        note(record, writer, &data);
        writer.drain().await.unwrap();
    }
    writer.write_eof().unwrap();
}

async fn take(reader: &mut StreamReader, record: &Record) {
    loop {
        let data = reader.read_chunk(BLOCK).await.unwrap();
        if data.is_empty() {
            break;
        }
        record.received.borrow_mut().add(&data);
    }
}

async fn echo(mut reader: StreamReader, writer: StreamWriter, record: Rc<Record>) {
    loop {
        let data = reader.read_chunk(BLOCK).await.unwrap();
        if data.is_empty() {
            break writer.close().await.unwrap();
        }
        record.received.borrow_mut().add(&data);
        writer.write(&data).unwrap();
        note(&record, &writer, &data);
        writer.drain().await.unwrap();
    }
}

/// Sends and receives at the same time, in two tasks.
async fn exchange(mut reader: StreamReader, writer: StreamWriter, record: Rc<Record>) {
    let noted = record.clone();
    let sending = spawn(async move {
        send(&writer, &noted, LARGE).await;
        writer
    });
    take(&mut reader, &record).await;
    let writer = sending.await.unwrap();
    writer.close().await.unwrap();
}

each_kind!(asyncio_gets_100_mb_back_from_our_echo);
fn asyncio_gets_100_mb_back_from_our_echo(kind: Kind) {
    meet(kind, Caller::They, "send", LARGE, echo).expect_equal(LARGE, LARGE);
}

each_kind!(we_get_100_mb_back_from_the_echo_of_asyncio);
fn we_get_100_mb_back_from_the_echo_of_asyncio(kind: Kind) {
    meet(kind, Caller::We, "echo", 0, exchange).expect_equal(LARGE, LARGE);
}

each_kind!(each_side_sends_100_mb_of_its_own_at_the_same_time);
fn each_side_sends_100_mb_of_its_own_at_the_same_time(kind: Kind) {
    for caller in Caller::BOTH {
        meet(kind, caller, "send", LARGE, exchange).expect_equal(LARGE, LARGE);
    }
}

each_kind!(what_we_say_after_the_end_of_asyncio_s_side_arrives);
fn what_we_say_after_the_end_of_asyncio_s_side_arrives(kind: Kind) {
    let len = 8 << 20;
    for caller in Caller::BOTH {
        let ours =
            async move |mut reader: StreamReader, writer: StreamWriter, record: Rc<Record>| {
                take(&mut reader, &record).await;
                assert!(reader.at_eof());
                send(&writer, &record, len).await;
                writer.close().await.unwrap();
            };
        meet(kind, caller, "send", len, ours).expect_equal(len, len);
    }
}

each_kind!(what_asyncio_says_after_the_end_of_our_side_arrives);
fn what_asyncio_says_after_the_end_of_our_side_arrives(kind: Kind) {
    let len = 8 << 20;
    for caller in Caller::BOTH {
        let ours =
            async move |mut reader: StreamReader, writer: StreamWriter, record: Rc<Record>| {
                send(&writer, &record, len).await;
                take(&mut reader, &record).await;
            };
        meet(kind, caller, "answer", len, ours).expect_equal(len, len);
    }
}

#[test]
fn a_reset_by_asyncio_fails_a_read_after_the_bytes_before_it() {
    for caller in Caller::BOTH {
        let ours = async |mut reader: StreamReader, writer: StreamWriter, record: Rc<Record>| {
            let mut five = [0; 5];
            reader.read_exact(&mut five).await.unwrap();
            record.received.borrow_mut().add(&five);
            writer.write(b"now").unwrap();
            match reader.read(&mut five).await {
                Err(ReadError::Closed(closed)) => assert!(closed.is_reset(), "{closed}"),
                other => panic!("{other:?}"),
            }
        };
        let mut meeting = meet(Kind::Tcp, caller, "paced", 5, ours);
        let record = meeting.record.clone();
        drive(&mut meeting.event_loop, "five bytes", || {
            record.received.borrow().to_string().starts_with("5 ")
        });
        meeting.program.tell("reset");
        drive(&mut meeting.event_loop, "the reset", || {
            record.is_over.get()
        });
        meeting.program.expect_success(&mut meeting.event_loop);
    }
}
