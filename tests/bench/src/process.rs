//! Programs that we start, pin to a core and end; never any other.
#![expect(clippy::disallowed_methods, reason = "waiting for programs takes a clock")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getrlimit, getsid, kill_process, setpriority_process, setrlimit, setsid,
};

use crate::error::{BenchError, Result};
use crate::measure;

/// The core of the load generator and of the upstream.
pub const LOAD_CORE: usize = 0;
/// The core of the proxy.
pub const PROXY_CORE: usize = 1;

/// Descriptors for 30 000 connections through a proxy.
const ENOUGH: u32 = 65_536;
/// How long a program may take to end by itself before it is killed.
const FAREWELL: Duration = Duration::from_secs(30);

/// How many descriptors a program that we start may have open.
#[must_use]
pub fn open_files() -> u32 {
    getrlimit(Resource::Nofile).current.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX)
}

/// Allows ten thousand connections, each with a descriptor on both sides of the proxy, or as many as the system lets us.
pub fn raise_open_files() {
    let now = getrlimit(Resource::Nofile);
    if open_files() < ENOUGH && setrlimit(Resource::Nofile, limit(Some(u64::from(ENOUGH)))).is_err() {
        // Less is no fault: who needs more asks `open_files` and says how far it got.
        let _ = setrlimit(Resource::Nofile, limit(now.maximum));
    }
}

/// Sets the niceness of this process and of all that it starts; Linux shares the cores among sessions first (autogroup,
/// see sched(7)), so this one becomes a session of its own.
pub fn prioritise(nice: i32) {
    if nice == 0 {
        return;
    }
    if !is_session_of_its_own() {
        eprintln!("the niceness counts only inside this session; start the command with `setsid --wait`");
    } else if std::fs::write("/proc/self/autogroup", nice.to_string()).is_err() {
        eprintln!("the session cannot be given a niceness of {nice} here");
    }
    if setpriority_process(None, nice).is_err() {
        eprintln!("a niceness of {nice} is not allowed here");
    }
}

/// Whether we lead a session, perhaps since now; who leads a process group cannot begin one.
fn is_session_of_its_own() -> bool {
    setsid().is_ok() || getsid(None) == Ok(getpid())
}

fn limit(files: Option<u64>) -> Rlimit {
    Rlimit { current: files, maximum: files }
}

/// A command that runs on one core, and ends when we do, however we end.
#[must_use]
pub fn pinned(core: usize, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "--cpu-list", &core.to_string()]).arg(program.as_ref());
    command
}

/// A program in the background; ended on drop.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    patience: Duration,
}

impl Background {
    /// Starts it with its output in a file.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file =
            |path: &Path| File::create(path).map_err(|source| BenchError::File { path: path.to_owned(), source });
        let output = file(log)?;
        let errors = output.try_clone()?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        Self::spawn(command)
    }

    /// Starts it with pipes to talk to it; it is expected to end when its standard input closes.
    pub fn start_piped(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let name = name_of(&command);
        match command.spawn() {
            Ok(child) => Ok(Self { name, child, patience: FAREWELL }),
            Err(source) => Err(BenchError::Spawn { program: name, source }),
        }
    }

    /// Its id; `taskset` has become the program itself.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it prints.
    pub fn output(&mut self) -> Result<&mut ChildStdout> {
        let missing = || BenchError::Output { program: self.name.clone(), what: "pipe", output: String::new() };
        self.child.stdout.as_mut().ok_or_else(missing)
    }

    /// Closes its standard input and returns what it prints until its end.
    pub fn finish(mut self) -> Result<String> {
        drop::<Option<ChildStdin>>(self.child.stdin.take());
        let mut text = String::new();
        self.output()?.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        check(&self.name, status, text)
    }

    /// Sends it a signal.
    pub fn signal(&self, what: Signal) -> Result<()> {
        signal(self.child.id(), what)
    }

    fn end(&mut self) -> Result<()> {
        drop::<Option<ChildStdin>>(self.child.stdin.take());
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        if wait_until(self.patience, || Ok(self.ended()?.is_some()))? {
            return Ok(());
        }
        // With its workers: nobody would tell them any more.
        for pid in measure::family(self.child.id())?.into_keys().filter(|&pid| pid != self.child.id()) {
            signal(pid, Signal::KILL)?;
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{} (process {}) could not be ended: {error}", self.name, self.child.id());
        }
    }
}

fn signal(pid: u32, what: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.map_or(Ok(()), |pid| kill_process(pid, what)).map_err(|error| BenchError::Socket(error.into()))
}

/// Runs a command to its end and returns what it printed; standard error is ours.
pub fn run(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(|source| BenchError::Spawn { program: name.clone(), source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    check(&name, output.status, text + &String::from_utf8_lossy(&output.stderr))
}

/// Asks again and again until it holds or the time is over; says which.
pub fn wait_until(limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if holds()? {
            return Ok(true);
        }
        if Instant::now() > end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check(name: &str, status: ExitStatus, output: String) -> Result<String> {
    if status.success() {
        return Ok(output);
    }
    Err(BenchError::Failed { program: name.to_owned(), status: status.to_string(), output })
}

/// The program's name, behind what [`pinned`] puts before it.
fn name_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let program = if words[0] == "setpriv" { words.get(6) } else { None };
    let program = program.unwrap_or(&words[0]);
    program.rsplit('/').next().unwrap_or(program).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_called_by_its_program() {
        assert_eq!(name_of(&pinned(1, "/usr/sbin/nginx")), "nginx");
        assert_eq!(name_of(&Command::new("wrk")), "wrk");
    }

    #[test]
    fn a_failing_command_says_what_it_printed() {
        let error = run(Command::new("sh").args(["-c", "echo no; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh failed") && error.contains("no\n"), "{error}");
        assert_eq!(run(Command::new("echo").arg("yes")).unwrap(), "yes\n");
    }

    #[test]
    fn what_does_not_end_is_killed_with_its_children() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' TERM; sleep 600 & wait; wait"]);
        let mut shell = Background::start_piped(shell).unwrap();
        shell.patience = Duration::ZERO;
        let started = wait_until(Duration::from_secs(10), || Ok(measure::family(shell.id())?.len() == 2)).unwrap();
        let sleeper = measure::family(shell.id()).unwrap().into_keys().find(|&pid| pid != shell.id());
        shell.end().unwrap();
        let gone = || Ok(measure::memory(sleeper.unwrap_or(0))?.rss == 0);
        assert!(started && wait_until(Duration::from_secs(10), gone).unwrap());
    }

    #[test]
    fn what_we_start_ends_with_its_input() {
        let cat = Background::start_piped(Command::new("cat")).unwrap();
        assert_eq!(cat.finish().unwrap(), "");
    }
}
