//! A part of a table that can't be read is told with the row that is in the way, its byte or column, and what to do.

use crate::jobs::job;
use crate::support::Place;

const ROWS: &str = "def run(mini_batch):\n    return [str(row) for row in mini_batch.iloc[:, 0]]\n";

/// The one error of a job on this file, which leaves rows.
fn told(name: &str, content: &[u8], more: &str) -> String {
    let place = Place::new();
    place.write(name, content);
    let sound = format!("sound.{}", name.split('.').nth(1).unwrap());
    place.write(&sound, if sound == "sound.csv" { "id\n1\n" } else { "{\"id\": 1}\n" });
    job(&place, ROWS, &format!("[{name}, {sound}]"), more);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let errors = place.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["kind"], "input", "{errors:?}");
    errors[0]["message"]
        .as_str()
        .unwrap()
        .replace(&format!("{}/", place.path("").to_str().unwrap().trim_end_matches('/')), "")
}

/// A thousand rows, of which the 684th is this. Before it in its mini-batch there is a field of two lines, and a line that is none.
fn csv(odd: &[u8]) -> Vec<u8> {
    let row = |row| match row {
        640 => b"640,\"two\nlines\"\n\n".to_vec(),
        683 => odd.to_vec(),
        _ => format!("{row},text {row}\n").into_bytes(),
    };
    [b"id,text\n".to_vec(), (0..1000).flat_map(row).collect()].concat()
}

const CSV: &str = "input_type: csv\nmini_batch_size: 100rows\n";

fn byte_behind(content: &[u8], what: &[u8]) -> usize {
    content.windows(what.len()).position(|part| part == what).unwrap() + what.len()
}

#[test]
fn the_row_of_a_csv_file_that_is_in_the_way() {
    if !crate::has_pandas() {
        return;
    }
    assert_eq!(told("t.csv", &csv(b"7,8,9,10\n"), CSV), "`t.csv`, row 684: Expected 2 fields, saw 4");

    let typed = told("t.csv", &csv(b"many,x\n"), &format!("{CSV}read_csv: {{dtype: {{text: str, id: int64}}}}\n"));
    assert!(typed.starts_with("`t.csv`, row 684, column `id`: ") && typed.contains("many"), "{typed}");

    for line in [&b"7,caf\xe9 x\n"[..], b"7,\"caf\xe9 x\"\n", b"\xe9,7\n"] {
        let content = csv(line);
        let byte = byte_behind(&content, b"\xe9");
        let says = format!(
            "`t.csv`, row 684, byte {byte}: 0xe9 is no utf-8 (invalid continuation byte); if the file has another encoding, say which: \
             `read_csv: {{encoding: latin1}}`"
        );
        assert_eq!(told("t.csv", &content, CSV), says);
    }
}

#[test]
fn the_line_of_a_jsonl_file_that_is_in_the_way() {
    if !crate::has_pandas() {
        return;
    }
    let lines = |odd: &[u8]| {
        let row = |row| if row == 83 { odd.to_vec() } else { format!("{{\"id\": {row}}}\n").into_bytes() };
        (0..120).flat_map(row).collect::<Vec<u8>>()
    };
    const JSONL: &str = "input_type: jsonl\nmini_batch_size: 50rows\n";
    let content = lines(b"\n{\"id\": 7 8}\n");
    let byte = byte_behind(&content, b"\n\n");
    let says = format!("`t.jsonl`, row 84, byte {}: Expecting ',' delimiter at character 10 of its line", byte + 1);
    assert_eq!(told("t.jsonl", &content, JSONL), says);

    let content = lines(b"{\"id\": \"\xff\"}\n");
    let byte = byte_behind(&content, b"\xff");
    let encoded = told("t.jsonl", &content, JSONL);
    assert!(
        encoded.starts_with(&format!("`t.jsonl`, row 84, byte {byte}: 0xff is no utf-8 (invalid start byte); ")),
        "{encoded}"
    );

    // Which pandas refuses, and Python's reader of JSON does not.
    let large = told("t.jsonl", &lines(b"{\"id\": 123456789012345678901234567890}\n"), JSONL);
    assert!(large.starts_with("`t.jsonl`, row 84: "), "{large}");
}

#[test]
fn the_row_of_a_packed_file_that_is_in_the_way() {
    if !crate::has_pandas() {
        return;
    }
    let pack = |content: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, content).unwrap();
        packed.finish().unwrap()
    };
    assert_eq!(told("t.csv.gz", &pack(&csv(b"7,8,9,10\n")), CSV), "`t.csv.gz`, row 684: Expected 2 fields, saw 4");
    let content = csv(b"7,\xe9\n");
    let byte = byte_behind(&content, b"\xe9");
    let encoded = told("t.csv.gz", &pack(&content), CSV);
    assert!(
        encoded.starts_with(&format!("`t.csv.gz`, byte {byte} once it is unpacked: 0xe9 is no utf-8 ")),
        "{encoded}"
    );
}
