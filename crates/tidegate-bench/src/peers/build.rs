//! Builds the servers, or finds out why that is not possible here.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // It is crates/tidegate-bench.
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The folder of the servers in other languages.
pub(super) fn folder() -> PathBuf {
    workspace().join("crates/tidegate-bench/peers")
}

/// The directory with the release builds of the programs of this crate, after building them
/// there. It is beside the directory of the running program.
///
/// # Errors
///
/// When cargo fails.
pub fn build_programs() -> io::Result<PathBuf> {
    build(&["-p", "tidegate-bench", "--bins"])
}

/// As [`build_programs`], after building one of them.
///
/// # Errors
///
/// When cargo fails.
pub fn build_program(name: &str) -> io::Result<PathBuf> {
    build(&["-p", "tidegate-bench", "--bin", name])
}

/// Returns the release build of an example, after building it.
///
/// # Errors
///
/// When cargo fails.
pub fn build_example(name: &str) -> io::Result<PathBuf> {
    let programs = build(&["-p", "tidegate-examples", "--example", name])?;
    Ok(programs.join("examples").join(name))
}

fn build(chosen: &[&str]) -> io::Result<PathBuf> {
    let here = env::current_exe()?;
    let target = here.parent().and_then(Path::parent);
    let target = target.ok_or_else(|| io::Error::other("no target directory"))?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building the servers");
    let mut build = Command::new(cargo);
    // `cargo run` sets these for its program. The build script of a dependency looks at them, so with
    // them everything would be built anew, and once more by the next cargo that has none.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    let status = build
        .args(["build", "--quiet", "--release"])
        .args(chosen)
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace())
        .status()?;
    if !status.success() {
        return Err(io::Error::other("cargo build failed"));
    }
    Ok(target.join("release"))
}

/// The place for what is built here.
fn built(programs: &Path) -> Result<PathBuf, String> {
    let place = programs.join("bench-peers");
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    Ok(place)
}

/// Compiles a server of `peers/`, and returns its path.
pub(super) fn build_c(programs: &Path, name: &str, flags: &str) -> Result<String, String> {
    let source = folder().join(format!("{name}.c"));
    let program = built(programs)?.join(name).to_string_lossy().into_owned();
    let source = source.to_string_lossy();
    let mut arguments = vec!["-O2", "-o", &program, &source];
    arguments.extend(flags.split_whitespace());
    run("cc", &arguments)?;
    Ok(program)
}

/// Returns the words of a tool under which a server can be told to [trim](crate::server_process::ServerProcess::trim) its
/// memory.
///
/// # Errors
///
/// When it cannot be built.
pub fn trimmer(programs: &Path) -> Result<[String; 2], String> {
    let library = build_c(programs, "trim", "-shared -fPIC")?;
    Ok(["env".to_owned(), format!("LD_PRELOAD={library}")])
}

/// Returns the Python of an environment with uvloop, which is made when there is none yet.
pub(super) fn uvloop(programs: &Path) -> Result<String, String> {
    let venv = built(programs)?.join("venv");
    let python = venv.join("bin/python").to_string_lossy().into_owned();
    let has_it = || run(&python, &["-c", "import uvloop"]);
    if has_it().is_err() {
        run("python3", &["-m", "venv", &venv.to_string_lossy()])?;
        let install = ["-m", "pip", "install", "--quiet", "--timeout", "15"];
        let what = ["--disable-pip-version-check", "uvloop"];
        run(&python, &[&install[..], &what].concat())?;
        has_it()?;
    }
    Ok(python)
}

/// Runs a program and returns its output, trimmed.
///
/// # Errors
///
/// That it is not there, or the last line of what it complained about.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let name = Path::new(program).file_name();
    let name = name.unwrap_or_default().to_string_lossy();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().rev().find(|line| !line.trim().is_empty());
        return Err(format!("{name}: {}", last.unwrap_or("failed")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_fails_says_so_in_one_line() {
        assert_eq!(run("echo", &["a", "b"]), Ok("a b".to_owned()));
        assert!(run("no-such-program", &[]).is_err());
        let complaint = run("sh", &["-c", "echo first >&2; echo last >&2; exit 1"]);
        assert_eq!(complaint, Err("sh: last".to_owned()));
    }
}
