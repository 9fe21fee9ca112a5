//! What the store keeps, and in which order.

use super::*;

fn event(id: &JobId, state: JobState) -> JobEvent {
    JobEvent {
        version: 1,
        job_id: id.clone(),
        name: "score".into(),
        state: state.name().into(),
        cause: None,
        time: "2026-11-21T02:38:55Z".into(),
        items: 0,
        items_succeeded: 0,
        items_failed: 0,
        output: None,
    }
}

fn reserve(store: &JobStore, id: &str, priority: u8, key: Option<&str>) -> JobId {
    let id = JobId(id.into());
    let dir = Path::new("/jobs").join(&id.0);
    let new = Reservation {
        id: &id,
        dir: &dir,
        name: "score",
        pool: "default",
        priority,
        node_count: None,
        key,
        digest: b"what was asked",
        source: "queue",
    };
    store.reserve(&new).unwrap();
    id
}

#[test]
fn a_job_is_one_once_it_is_accepted_and_its_key_is_known_from_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let store = JobStore::open(&dir.path().join("jobs.sqlite")).unwrap();
    let id = reserve(&store, "score-00000001", 4, Some("k"));
    assert!(store.jobs().unwrap().is_empty() && store.job(&id).unwrap().is_none());
    let known = store.known("k", b"what was asked").unwrap().unwrap();
    assert!(!known.accepted && known.same);
    store.accept(&id, "queue", &event(&id, JobState::Queued)).unwrap();
    drop(store);
    let store = JobStore::open(&dir.path().join("jobs.sqlite")).unwrap();
    let known = store.known("k", b"something else").unwrap().unwrap();
    assert!(known.accepted && !known.same && known.job.id == id);
    assert_eq!(store.job(&id).unwrap().unwrap().state, JobState::Queued);

    let gone = reserve(&store, "score-00000002", 4, None);
    assert_eq!(store.abandoned().unwrap(), [(gone.clone(), PathBuf::from("/jobs/score-00000002"))]);
    store.withdraw(&gone).unwrap();
    store.withdraw(&id).unwrap();
    assert_eq!(store.jobs().unwrap().len(), 1, "what is accepted is not withdrawn");
}

#[test]
fn a_message_without_a_key_is_known_until_it_is_acknowledged() {
    let store = JobStore::open(Path::new(":memory:")).unwrap();
    let id = reserve(&store, "score-00000001", 4, None);
    store.accept(&id, "queue", &event(&id, JobState::Queued)).unwrap();
    assert_eq!(store.unanswered(b"what was asked").unwrap().unwrap().job.id, id);
    assert!(store.unanswered(b"something else").unwrap().is_none());
    store.answered(&id).unwrap();
    assert!(store.unanswered(b"what was asked").unwrap().is_none());
}

#[test]
fn what_is_not_over_is_taken_up_the_most_urgent_first() {
    let store = JobStore::open(Path::new(":memory:")).unwrap();
    let ids = [("a", 4), ("b", 9), ("c", 4), ("d", 4)].map(|(id, priority)| {
        let id = reserve(&store, id, priority, None);
        store.accept(&id, "http", &event(&id, JobState::Queued)).unwrap();
        id
    });
    store.state(&ids[2], JobState::Completed, None, false, Some(&event(&ids[2], JobState::Completed))).unwrap();
    store.want(&ids[3], Intent::Paused, "http", "pause").unwrap();
    let order =
        |store: &JobStore| -> Vec<String> { store.unfinished().unwrap().into_iter().map(|job| job.id.0).collect() };
    assert_eq!(order(&store), ["b", "a", "d"]);
    assert_eq!(store.job(&ids[3]).unwrap().unwrap().wanted, Intent::Paused);
    for script in [None, Some(ScriptNumber(2))] {
        let retry = Retry { set: vec!["run_max_try=5".into()], script };
        store.retry(&ids[2], &retry, "http", &event(&ids[2], JobState::Queued)).unwrap();
        assert_eq!(order(&store), ["b", "a", "c", "d"]);
        assert_eq!(store.job(&ids[2]).unwrap().unwrap().retry, Some(retry));
    }
    store.state(&ids[2], JobState::Running, None, true, None).unwrap();
    assert_eq!(store.job(&ids[2]).unwrap().unwrap().retry, None);
}

#[test]
fn events_wait_in_order_until_they_are_told() {
    let store = JobStore::open(Path::new(":memory:")).unwrap();
    let id = reserve(&store, "score-00000001", 4, None);
    store.accept(&id, "http", &event(&id, JobState::Queued)).unwrap();
    store.state(&id, JobState::Running, None, false, Some(&event(&id, JobState::Running))).unwrap();
    let untold = store.untold(10).unwrap();
    let keys: Vec<&str> = untold.iter().map(|(_, key, _)| key.as_str()).collect();
    assert_eq!(keys, ["job.score-00000001.queued", "job.score-00000001.running"]);
    store.told(untold[0].0).unwrap();
    assert_eq!(store.untold(10).unwrap().len(), 1);
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.sqlite");
    let store = JobStore::open(&path).unwrap();
    store.connection().pragma_update(None, "user_version", 2).unwrap();
    drop(store);
    assert!(JobStore::open(&path).is_err_and(|error| error.to_string().contains("later version")));
}
