//! The yardsticks of the benchmark: what this machine can do with nothing of fanfold in between. Started by `bench.py`.

mod pipe;
mod triangle;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((what, rest)) if what == "pipe" => pipe::run(rest),
        Some((what, rest)) if what == "triangle" => triangle::run(rest),
        _ => Err("usage: fanfold-yardstick pipe|triangle …".into()),
    }
}
