//! The progress bar on a real terminal: what is left on the screen when all is over.

use std::process::{Command, Stdio};

use super::{RUN, place, place_of};
use crate::support::{FANFOLD, LIMIT, Place, Ran, finish};

/// Runs the program on a pseudo terminal of 100 columns and passes on all that it wrote there, and its exit code.
const PTY: &str = r#"
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    os.write(1, data)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"#;

fn on_a_terminal(place: &Place, term: &str) -> Ran {
    let own = place.fanfold();
    let mut command = Command::new("python3");
    command.args(["-c", PTY, FANFOLD]).args(RUN).current_dir(place.path(""));
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("TERM", term).env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().expect("python3 starts"), LIMIT)
}

/// The lines that a terminal shows after it was sent `text`. Knows what progress bars use, and fails on anything else.
fn screen(text: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0usize, 0usize);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(Vec::new());
                }
            }
            '\x1b' => {
                assert_eq!(rest.next(), Some('['), "an unknown escape sequence");
                let mut number = String::new();
                let end = loop {
                    match rest.next().expect("a whole escape sequence") {
                        c if c.is_ascii_digit() || c == ';' || c == '?' => number.push(c),
                        c => break c,
                    }
                };
                let count = number.parse().unwrap_or(1);
                match end {
                    'm' | 'h' | 'l' => {}
                    'A' => row = row.saturating_sub(count),
                    'B' => row = (row + count).min(lines.len() - 1),
                    'K' if number.is_empty() || number == "0" => lines[row].truncate(column),
                    'K' => lines[row].clear(),
                    end => panic!("an unknown escape sequence: {number}{end}"),
                }
            }
            c => {
                assert!(!c.is_control(), "{c:?}");
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    let text = |line: Vec<char>| line.into_iter().collect::<String>().trim_end().to_string();
    lines.into_iter().map(text).collect()
}

#[test]
fn nothing_of_the_bar_stays() {
    let place = place();
    let ran = on_a_terminal(&place, "xterm-256color").expect(0);
    assert!(ran.stdout.contains('\x1b'), "there was a bar");
    assert!(ran.stdout.contains("of 20 mini-batches"), "{:?}", ran.stdout);
    let shown = super::told(&place, &screen(&ran.stdout).join("\n"));
    insta::assert_snapshot!(shown, @r#"
    Job echo-<id> in <place>/job

    echo-<id> Completed after <time>
      mini-batches  20 planned, 20 run, 0 run again, 20 committed
      items         20 succeeded, 0 failed
      rate          <rate> mini-batches/s
      output        <place>/job/output/parallel_run_step.txt (20 results, 180 B)
      logs          <place>/job/logs
    "#);
}

#[test]
fn errors_stand_whole_above_the_bar() {
    let place = place_of(&["item-000", "item-001-bad", "item-002"]);
    let ran = on_a_terminal(&place, "xterm").expect(5);
    let shown = screen(&ran.stdout);
    let at = shown.iter().position(|line| line == "error: ValueError: bad pixel").expect("the error");
    assert_eq!(shown[at + 1], "  exception in mini-batch 1, attempt 1, node 0, process000; it is tried again");
    assert_eq!(shown[at + 2], "  Traceback (most recent call last):");
    assert!(!shown.iter().any(|line| line.contains("[===")), "{shown:#?}");
}

#[test]
fn a_terminal_that_can_do_nothing_gets_lines() {
    let place = place();
    let ran = on_a_terminal(&place, "dumb").expect(0);
    assert!(!ran.stdout.contains('\x1b'), "{:?}", ran.stdout);
    assert!(ran.stdout.contains("Completed after"), "{}", ran.stdout);
}
