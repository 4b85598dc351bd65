//! Random inputs for a rule, as an ordinary test: no other tool and no other compiler.

use fastrand::Rng;
use std::any::Any;
use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::panic::{self, AssertUnwindSafe, Location};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};
use std::{env, fs};

const TIME: Duration = Duration::from_millis(300);
const LONGEST_INPUT: usize = 1024;
/// Maximum number of tries to make a failing input shorter.
const SHRINKS: usize = 2_000;
const SHRINK_TIME: Duration = Duration::from_secs(5);

/// Tests a rule with every file in the folder `corpus`, then with random inputs and with mutations of
/// the files, for 300 ms.
///
/// `decode` makes a case of an input, such as a row of operations, and returns `None` for an input that
/// is none. `check` panics if the rule is violated, and any panic in it counts.
///
/// A failure is made shorter, and reported with its case, its bytes, and a command that adds it to the
/// corpus. These variables of the environment change a run:
///
/// | variable | effect |
/// |---|---|
/// | `TIDEGATE_FUZZ_MS` | for how many milliseconds; then the seed is printed at the start |
/// | `TIDEGATE_FUZZ_SEED` | the seed of another run, for the same inputs in the same order |
/// | `TIDEGATE_FUZZ_FILE` | each test that is run takes this file and nothing else; cargo starts it in the folder of its package |
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("fuzz-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # std::fs::write(folder.join("one_line"), "a\n").unwrap();
/// # let corpus = &folder;
/// // In a test: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/lines")
/// tidegate_testkit::fuzz(
///     corpus,
///     |input| std::str::from_utf8(input).ok().map(str::to_owned),
///     |text| assert!(text.lines().count() <= text.len()),
/// );
/// # std::fs::remove_dir_all(&folder).unwrap();
/// ```
///
/// # Panics
///
/// When `check` does, when a file of the corpus is no case, when there is no corpus, and when a
/// variable cannot be understood.
pub fn fuzz<T: Debug>(
    corpus: impl AsRef<Path>,
    decode: impl Fn(&[u8]) -> Option<T>,
    check: impl Fn(&T),
) {
    let number = |name: &str| {
        let value = env::var(name).ok()?;
        Some(
            value
                .parse::<u64>()
                .unwrap_or_else(|_| panic!("{name}={value} is no number")),
        )
    };
    let time = number("TIDEGATE_FUZZ_MS").map(Duration::from_millis);
    let run = Run {
        corpus: corpus.as_ref(),
        time: time.unwrap_or(TIME),
        seed: number("TIDEGATE_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..)),
    };
    if let Some(file) = env::var_os("TIDEGATE_FUZZ_FILE") {
        let input = read(Path::new(&file));
        run.check_file(Path::new(&file), &input, &decode, &check);
        return;
    }
    if time.is_some() {
        println!("{}: seed {}", run.corpus.display(), run.seed);
    }
    let inputs = run.run(decode, check);
    if time.is_some() {
        println!("{}: {inputs} random inputs", run.corpus.display());
    }
}

struct Run<'a> {
    corpus: &'a Path,
    time: Duration,
    seed: u64,
}

impl Run<'_> {
    /// Runs the inputs, and returns the number of random ones.
    fn run<T: Debug>(&self, decode: impl Fn(&[u8]) -> Option<T>, check: impl Fn(&T)) -> u64 {
        let files = self.files();
        for (path, input) in &files {
            self.check_file(path, input, &decode, &check);
        }
        let mut rng = Rng::with_seed(self.seed);
        let start = Instant::now();
        let mut inputs = 0;
        while start.elapsed() < self.time {
            let input = match rng.u8(..4) {
                0 => random(&mut rng),
                _ => mutated(&files, &mut rng),
            };
            inputs += 1;
            if let Err(failure) = outcome(&input, &decode, &check) {
                let place = format!("input {inputs} of seed {}", self.seed);
                self.report(&place, input, failure, &decode, &check);
            }
        }
        inputs
    }

    /// Returns the files by their names, so that a seed means the same everywhere.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = fs::read_dir(self.corpus)
            .unwrap_or_else(|error| panic!("no corpus {}: {error}", self.corpus.display()));
        let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "nothing in {}", self.corpus.display());
        let with_input = |path: PathBuf| {
            let input = read(&path);
            (path, input)
        };
        paths.into_iter().map(with_input).collect()
    }

    fn check_file<T: Debug>(
        &self,
        path: &Path,
        input: &[u8],
        decode: &impl Fn(&[u8]) -> Option<T>,
        check: &impl Fn(&T),
    ) {
        assert!(decode(input).is_some(), "{} is no case", path.display());
        if let Err(failure) = outcome(input, decode, check) {
            let place = format!("{}", path.display());
            self.report(&place, input.to_vec(), failure, decode, check);
        }
    }

    fn report<T: Debug>(
        &self,
        place: &str,
        input: Vec<u8>,
        failure: String,
        decode: &impl Fn(&[u8]) -> Option<T>,
        check: &impl Fn(&T),
    ) -> ! {
        let found = hex(&input);
        let (input, failure) = shrunk(input, failure, decode, check);
        let path = self.corpus.join(format!("found_{:016x}", hash(&input)));
        panic!(
            "{failure}\n\ncase: {:?}\ninput: {}\nfound as: {found} ({place})\nto keep it: {} > {}",
            decode(&input),
            hex(&input),
            printf(&input),
            path.display(),
        );
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the message of the panic, if the rule is violated.
fn outcome<T>(
    input: &[u8],
    decode: &impl Fn(&[u8]) -> Option<T>,
    check: &impl Fn(&T),
) -> Result<(), String> {
    let once = || {
        if let Some(case) = decode(input) {
            check(&case);
        }
    };
    quietly(|| panic::catch_unwind(AssertUnwindSafe(once)))
}

thread_local! {
    /// Where the last panic of this thread was, while its panics are to be caught.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the panics of many tries out of the output of the test. The hook is one for all threads, so it
/// is put in place once, and leaves the panics of other threads to the one before.
fn quietly(run: impl FnOnce() -> Result<(), Box<dyn Any + Send>>) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let told = PLACE.try_with(|place| {
                let mut place = place.borrow_mut();
                if let Some(place) = place.as_mut() {
                    *place = info.location().map(Location::to_string).unwrap_or_default();
                }
                place.is_some()
            });
            if told != Ok(true) {
                before(info);
            }
        }));
    });
    PLACE.set(Some(String::new()));
    let outcome = run();
    let place = PLACE.take().unwrap_or_default();
    outcome.map_err(|payload| {
        let words = payload.downcast_ref::<&str>().copied();
        let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        format!("{} ({place})", words.unwrap_or("a panic without words"))
    })
}

/// Returns a shorter input that violates the rule, though maybe elsewhere.
fn shrunk<T>(
    mut input: Vec<u8>,
    mut failure: String,
    decode: &impl Fn(&[u8]) -> Option<T>,
    check: &impl Fn(&T),
) -> (Vec<u8>, String) {
    let start = Instant::now();
    let mut tries = 0;
    let mut still_fails = |input: &mut Vec<u8>, other: Vec<u8>| {
        tries += 1;
        let outcome = outcome(&other, decode, check);
        let fails = outcome.is_err();
        if let Err(words) = outcome {
            (*input, failure) = (other, words);
        }
        let go_on = tries < SHRINKS && start.elapsed() < SHRINK_TIME;
        (fails, go_on)
    };
    loop {
        let before = input.clone();
        // Without a piece, of every length.
        let mut len = input.len();
        while len > 0 {
            let mut at = 0;
            while at + len <= input.len() {
                let other = [&input[..at], &input[at + len..]].concat();
                match still_fails(&mut input, other) {
                    (_, false) => return (input, failure),
                    (true, _) => {}
                    (false, _) => at += len,
                }
            }
            len /= 2;
        }
        // With smaller bytes.
        for at in 0..input.len() {
            for smaller in [0, input[at] / 2, input[at].saturating_sub(1)] {
                if smaller >= input[at] {
                    continue;
                }
                let mut other = input.clone();
                other[at] = smaller;
                match still_fails(&mut input, other) {
                    (_, false) => return (input, failure),
                    (true, _) => break,
                    (false, _) => {}
                }
            }
        }
        if input == before {
            return (input, failure);
        }
    }
}

/// Draws an input, short ones more often than long ones.
fn random(rng: &mut Rng) -> Vec<u8> {
    let most = 1 << rng.u32(..=LONGEST_INPUT.ilog2());
    let len = rng.usize(..=most);
    (0..len).map(|_| byte(rng)).collect()
}

/// Draws a byte, often one at which much changes.
fn byte(rng: &mut Rng) -> u8 {
    match rng.u8(..4) {
        0 => *rng.choice(&[0, 1, 2, 0x7f, 0x80, 0xfe, 0xff]).unwrap_or(&0),
        1 => rng.u8(..16),
        _ => rng.u8(..),
    }
}

fn mutated(files: &[(PathBuf, Vec<u8>)], rng: &mut Rng) -> Vec<u8> {
    let file = |rng: &mut Rng| files[rng.usize(..files.len())].1.as_slice();
    let mut input = file(rng).to_vec();
    for _ in 0..1 << rng.u32(..5) {
        let at = rng.usize(..=input.len());
        let end = rng.usize(at..=input.len().min(at + 16));
        match rng.u8(..7) {
            0 if at < input.len() => input[at] ^= 1 << rng.u32(..8),
            1 if at < input.len() => input[at] = byte(rng),
            2 => input.insert(at, byte(rng)),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            5 => {
                let other = file(rng);
                input.splice(at.., other[at.min(other.len())..].iter().copied());
            }
            _ => input.extend_from_slice(file(rng)),
        }
        input.truncate(LONGEST_INPUT);
    }
    input
}

fn hex(input: &[u8]) -> String {
    input.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A command for every shell.
fn printf(input: &[u8]) -> String {
    let bytes = input.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:03o}");
        text
    });
    format!("printf '{bytes}'")
}

/// FNV-1a, for a name.
fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[&[u8]]) -> PathBuf {
        let name = format!("tidegate-fuzz-{}-{name}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        for (number, file) in files.iter().enumerate() {
            fs::write(folder.join(number.to_string()), file).unwrap();
        }
        folder
    }

    /// Returns the message of a run, and whether the rule held.
    fn run(
        name: &str,
        files: &[&[u8]],
        seed: u64,
        check: impl Fn(&Vec<u8>),
    ) -> Result<u64, String> {
        let corpus = folder(name, files);
        let run = Run {
            corpus: &corpus,
            time: Duration::from_secs(20),
            seed,
        };
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            run.run(|input| (input != b"none").then(|| input.to_vec()), check)
        }));
        fs::remove_dir_all(&corpus).unwrap();
        outcome.map_err(|payload| *payload.downcast::<String>().unwrap())
    }

    #[test]
    fn a_violation_is_reported_with_its_shortest_input_and_how_to_keep_it() {
        let told = run("shortest", &[b"abc"], 7, |input| {
            let large = input.iter().filter(|&&byte| byte > 9).count();
            assert!(large < 4, "{large} are large");
        });
        let told = told.unwrap_err();
        for part in [
            "4 are large (crates",
            "case: Some([10, 10, 10, 10])\n",
            "input: 0a0a0a0a\n",
            " of seed 7)\n",
            "to keep it: printf '\\012\\012\\012\\012' > ",
        ] {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
    }

    #[test]
    fn the_corpus_comes_first_and_a_file_that_fails_is_named() {
        let told = run("first", &[b"good", b"bad"], 1, |input| {
            assert!(!input.starts_with(b"bad"));
        });
        let told = told.unwrap_err();
        assert!(told.contains("input: 626164\n"), "{told}");
        assert!(told.contains("/1)\n"), "{told}");
    }

    #[test]
    fn a_corpus_that_is_empty_or_holds_what_is_no_case_is_a_failure() {
        let told = run("empty", &[], 1, |_| {}).unwrap_err();
        assert!(told.starts_with("nothing in "), "{told}");
        let told = run("none", &[b"none"], 1, |_| {}).unwrap_err();
        assert!(told.ends_with("/0 is no case"), "{told}");
    }

    #[test]
    fn a_seed_stands_for_the_same_inputs() {
        let inputs = |seed| {
            let seen = RefCell::new(Vec::new());
            let told = run(&format!("seed-{seed}"), &[b"abcdefgh"], seed, |input| {
                seen.borrow_mut().push(input.clone());
                assert!(seen.borrow().len() != 200);
            });
            assert!(told.is_err());
            let mut seen = seen.into_inner();
            seen.truncate(200);
            seen
        };
        let first = inputs(1);
        assert_eq!(first, inputs(1));
        assert_ne!(first, inputs(2));
        // Of both kinds.
        let of_file = |input: &&Vec<u8>| input.windows(2).any(|two| two == b"bc");
        let from_file = first.iter().filter(of_file).count();
        assert!((20..190).contains(&from_file), "{from_file} of 200");
    }
}
