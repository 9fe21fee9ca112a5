//! Files as objects of S3 and of Azure, on servers of the test's own, with requests that break.

#![cfg(feature = "cloud")]

use std::collections::BTreeMap;
use std::fs::{self, File};

use fanfold_shared::uri::Uri;
use fanfold_store::{Client, Datastores, Over, PutError, StoreError, Stores, Why};
use fanfold_test_servers::{Azurite, Bucket, Fault, Faults, Rule, S3, S3Key, has_cloud_servers};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A service, and the relay that everything goes through.
struct World {
    dir: TempDir,
    faults: Faults,
    bucket: Bucket,
    stores: Stores,
    s3: Option<S3>,
    _azurite: Option<Azurite>,
}

impl World {
    fn s3() -> World {
        World::of_s3(|s3| s3.key().clone())
    }

    fn of_s3(key: impl Fn(&S3) -> S3Key) -> World {
        let s3 = S3::start();
        let (bucket, faults) = (s3.bucket("out"), Faults::before(s3.port()));
        let key = key(&s3);
        let entry = format!(
            "type: s3, bucket: out, region: {}, endpoint: '{}', access_key_id: '{}', secret_access_key: '{}'",
            S3::REGION,
            faults.url(),
            key.id,
            key.secret
        );
        World { s3: Some(s3), ..World::new(bucket, faults, &entry) }
    }

    fn azure() -> World {
        let azurite = Azurite::start();
        let (bucket, faults) = (azurite.container("out"), Faults::before(azurite.port()));
        let entry = format!(
            "type: azure_blob, account: {0}, container: out, endpoint: '{1}/{0}', account_key: '{2}'",
            Azurite::ACCOUNT,
            faults.url(),
            azurite.key()
        );
        World { _azurite: Some(azurite), ..World::new(bucket, faults, &entry) }
    }

    fn new(bucket: Bucket, faults: Faults, entry: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("datastores.yaml");
        fs::write(&file, format!("out: {{{entry}}}\n")).unwrap();
        let stores = Stores::new(Datastores::read(&file).unwrap()).unwrap();
        World { dir, faults, bucket, stores, s3: None, _azurite: None }
    }

    fn client(&self, key: &str) -> Client {
        self.stores.open(&Uri::parse(&format!("datastore://out/{key}")).unwrap()).unwrap()
    }

    /// A file of so many bytes that are all of this one's own.
    fn file(&self, len: usize, seed: u64) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..len as u64).map(|at| (at.wrapping_mul(2_654_435_761 + seed) >> 13) as u8).collect();
        let path = self.dir.path().join(format!("file-{seed}"));
        fs::write(&path, &bytes).unwrap();
        (File::open(path).unwrap(), bytes)
    }
}

fn marks(of: &str) -> BTreeMap<String, String> {
    [("fanfoldjob".to_string(), of.to_string())].into()
}

/// Writes it as jobs do: small files at once, others in parts.
fn put(client: &Client, file: &File, len: usize, over: &Over, marks: &BTreeMap<String, String>) -> Result<(), Why> {
    let why = |error: PutError| match error {
        PutError::Store(StoreError { why, .. }) => why,
        PutError::File(error) => panic!("{error}"),
    };
    let mut go_on = |_: u64| true;
    if len <= 8 * MIB {
        client.put_file(file, len as u64, over, marks, &mut go_on).map_err(why)?;
    } else {
        let mut parts = client.begin_parts(len as u64, marks, &mut || true).map_err(|error| error.why)?;
        parts.send(file, &mut go_on).map_err(why)?;
        if let Err(error) = parts.finish(over, &mut go_on) {
            parts.forget(&mut || true).unwrap();
            return Err(error.why);
        }
    }
    Ok(())
}

fn writes_on_conditions(world: &World) {
    for len in [0, 5, 20 * MIB] {
        let client = world.client(&format!("a/{len}.txt"));
        let key = format!("a/{len}.txt");
        assert_eq!(client.look(&mut || true).unwrap(), None);
        let (file, bytes) = world.file(len, 1);
        put(&client, &file, len, &Over::Nothing, &marks("one")).unwrap();
        assert!(world.bucket.get(&key).unwrap() == bytes, "{key}");
        let first = client.look(&mut || true).unwrap().unwrap();
        assert_eq!((first.size, first.marks.get("fanfoldjob").unwrap().as_str()), (len as u64, "one"));

        // There is something: not once more.
        let again = put(&client, &file, len, &Over::Nothing, &marks("two")).unwrap_err();
        assert!(matches!(again, Why::Exists | Why::Changed(_)), "{key}: {again:?}");
        assert_eq!(client.look(&mut || true).unwrap().unwrap(), first, "{key}");

        // Over what was seen, but not over what came since.
        let (longer, bytes) = world.file(len + 7, 2);
        put(&client, &longer, len + 7, &Over::This(first.version.clone()), &marks("three")).unwrap();
        assert!(world.bucket.get(&key).unwrap() == bytes, "{key}");
        let late = put(&client, &file, len, &Over::This(first.version.clone()), &marks("four"));
        let last = world.faults.seen().into_iter().rfind(|seen| seen.method != "DELETE").unwrap();
        assert_eq!(last.condition, first.version.etag, "{key}: {last:?}");
        if world.s3.is_some() && len > 8 * MIB {
            // Moto takes no notice of this one where parts are put together; Amazon does, since 2024.
            continue;
        }
        let late = late.unwrap_err();
        assert!(matches!(late, Why::Changed(_)), "{key}: {late:?}");
        assert_eq!(client.look(&mut || true).unwrap().unwrap().marks.get("fanfoldjob").unwrap(), "three");
    }
}

#[test]
fn s3_writes_on_conditions() {
    if has_cloud_servers() {
        writes_on_conditions(&World::s3());
    }
}

#[test]
fn azure_writes_on_conditions() {
    if has_cloud_servers() {
        writes_on_conditions(&World::azure());
    }
}

/// Parts that break are sent again, those that arrived are not; until the end nothing is to be seen.
fn goes_on_with_the_parts_that_broke(world: &World, part: &'static str) {
    const LEN: usize = 70 * MIB;
    let client = world.client("large.bin");
    let (file, bytes) = world.file(LEN, 3);
    let mut parts = client.begin_parts(LEN as u64, &marks("one"), &mut || true).unwrap();
    // Four are on their way at once; the fifth leaves when one of them is there.
    world.faults.rule(Rule::new(Fault::Status(403, None)).method("PUT").on(part).after(4));
    let broken = parts.send(&file, &mut |_| true).unwrap_err();
    assert!(matches!(broken, PutError::Store(StoreError { why: Why::Denied(_), .. })), "{broken:?}");
    assert_eq!((client.look(&mut || true).unwrap(), world.bucket.get("large.bin")), (None, None));

    world.faults.clear();
    // The network has its moods: cut in the middle, answers lost, a server that is busy.
    world.faults.rule(Rule::new(Fault::CutRequest(MIB as u64)).method("PUT").on(part).times(1));
    world.faults.rule(Rule::new(Fault::LoseAnswer).method("PUT").on(part).times(1));
    world.faults.rule(Rule::new(Fault::Status(503, None)).method("PUT").on(part).times(1));
    let before = world.faults.count("PUT", part);
    let mut last = 0;
    let whole = parts.send(&file, &mut |sent| {
        assert!(sent >= last && sent <= LEN as u64);
        last = sent;
        true
    });
    whole.unwrap();
    assert_eq!(last, LEN as u64);
    let sent = world.faults.count("PUT", part) - before;
    assert!((1 + 3..=4 + 3).contains(&sent), "one part of five was there at least, and three requests broke: {sent}");
    assert_eq!(client.look(&mut || true).unwrap(), None);
    parts.finish(&Over::Nothing, &mut |_| true).unwrap();
    assert!(world.bucket.get("large.bin").unwrap() == bytes);
}

#[test]
fn s3_goes_on_with_the_parts_that_broke() {
    if has_cloud_servers() {
        let world = World::s3();
        goes_on_with_the_parts_that_broke(&world, "partNumber=");
        assert_eq!(world.s3.as_ref().unwrap().unfinished_uploads("out"), [""; 0]);
    }
}

#[test]
fn azure_goes_on_with_the_parts_that_broke() {
    if has_cloud_servers() {
        goes_on_with_the_parts_that_broke(&World::azure(), "comp=block&");
    }
}

/// A server that takes nothing any more, for which a slow line is not taken: the kernel ends that connection after 30 s.
#[test]
fn a_part_that_is_stuck_is_sent_again() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::s3();
    let client = world.client("large.bin");
    let (file, bytes) = world.file(20 * MIB, 5);
    world.faults.rule(Rule::new(Fault::Stall).method("PUT").on("partNumber=").times(1));
    let mut parts = client.begin_parts(bytes.len() as u64, &marks("one"), &mut || true).unwrap();
    let began = std::time::Instant::now();
    let patience = std::time::Duration::from_secs(180);
    parts.send(&file, &mut |_| began.elapsed() < patience).unwrap();
    parts.finish(&Over::Nothing, &mut |_| true).unwrap();
    assert!(world.bucket.get("large.bin").unwrap() == bytes);
    assert_eq!(world.faults.count("PUT", "partNumber="), 3);
}

#[test]
fn who_stops_waiting_leaves_nothing_to_be_seen_and_parts_are_forgotten_by_their_id() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::s3();
    let client = world.client("large.bin");
    let (file, bytes) = world.file(40 * MIB, 4);
    world.faults.rule(Rule::new(Fault::Stall).method("PUT"));
    let mut parts = client.begin_parts(bytes.len() as u64, &marks("one"), &mut || true).unwrap();
    let stopped = |put: Result<(), PutError>| matches!(put, Err(PutError::Store(StoreError { why: Why::Stopped, .. })));
    assert!(stopped(parts.send(&file, &mut |_| false)));
    assert!(stopped(client.put_file(&file, 9, &Over::Nothing, &marks("one"), &mut |_| false)));
    world.faults.clear();
    let s3 = world.s3.as_ref().unwrap();
    assert_eq!(s3.unfinished_uploads("out"), ["large.bin"]);
    // Whoever comes next knows only its name.
    let id = parts.id().to_string();
    drop(parts);
    client.forget_parts(&id, &mut || true).unwrap();
    client.forget_parts(&id, &mut || true).unwrap();
    assert_eq!((s3.unfinished_uploads("out"), client.look(&mut || true).unwrap()), (vec![], None));
}

#[test]
fn the_right_to_write_is_known_before_anything_is_written() {
    if !has_cloud_servers() {
        return;
    }
    let reads = World::of_s3(|s3| s3.user(&["s3:GetObject", "s3:ListBucket"]));
    let refused = reads.client("a").try_to_write(&mut || true).unwrap_err();
    assert!(matches!(refused.why, Why::Denied(_)), "{refused:?}");
    let stranger = World::of_s3(|s3| S3Key { secret: "not this one".into(), ..s3.key().clone() });
    let refused = stranger.client("a").try_to_write(&mut || true).unwrap_err();
    assert!(matches!(refused.why, Why::Denied(_) | Why::Unauthenticated(_)), "{refused:?}");

    for world in [World::s3(), World::azure()] {
        world.client("a").try_to_write(&mut || true).unwrap();
        assert_eq!(world.bucket.list(""), []);
        assert!(world.s3.is_none_or(|s3| s3.unfinished_uploads("out").is_empty()));
    }
}
