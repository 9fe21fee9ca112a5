use super::*;
use fanfold_shared::message::{AttemptError, ErrorKind, Identity};

struct World {
    members: Members,
    start: Instant,
    now: Instant,
    wanted: Wanted,
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn world(most: Option<u32>) -> World {
    let start = Instant::now();
    let wanted = Wanted { work_waits: true, most };
    World { members: Members::new("default", vec![], start), start, now: start, wanted }
}

impl World {
    /// Looks every half second until `seconds` after the start; returns what was sent and what became of nodes.
    fn until(&mut self, seconds: u64) -> (Vec<Action>, Vec<Change>) {
        let (mut actions, mut changes) = (vec![], vec![]);
        while self.now <= self.start + Duration::from_secs(seconds) {
            let (act, change) = self.members.keep(self.wanted, self.now);
            actions.extend(act);
            changes.extend(change);
            self.now += Duration::from_millis(500);
        }
        (actions, changes)
    }

    fn look(&mut self) -> Vec<Action> {
        self.members.keep(self.wanted, self.now).0
    }

    fn hear(&mut self, name: &str, event: NodeEvent) -> Vec<Change> {
        self.members.hear(&node(name), &event, self.now)
    }

    fn joining(&mut self, name: &str, ticket: u64) {
        let (worker, host) = (format!("w-{name}"), format!("h-{name}"));
        self.hear(name, NodeEvent::Joining { worker, host, ticket, version: "0".into() });
    }

    fn join(&mut self, name: &str, ticket: u64) {
        self.joining(name, ticket);
        self.hear(name, NodeEvent::Joined { host: format!("h-{name}"), processes: 2, devices: vec![] });
    }
}

fn tell(name: &str, command: Command) -> Action {
    Action::Tell { worker: format!("w-{name}"), node: node(name), command }
}

fn error() -> Box<AttemptError> {
    let (traceback, stderr) = Default::default();
    Box::new(AttemptError { kind: ErrorKind::Init, message: "no".into(), traceback, stderr, of_all: false })
}

#[test]
fn as_many_tickets_as_nodes_are_wanted_renewed_while_nobody_takes_them() {
    let mut world = world(Some(2));
    assert_eq!(world.look(), [Action::Ticket(1), Action::Ticket(2)]);
    assert_eq!(world.until(59).0, []);
    assert_eq!(world.until(61).0, [Action::Ticket(1), Action::Ticket(2)]);
    world.join("a", 1);
    assert_eq!(world.members.wanted(), 1);
    assert_eq!(world.look(), [tell("a", Command::Alive)]);
    world.wanted.work_waits = false;
    world.look();
    assert_eq!(world.members.wanted(), 0, "nothing waits: the other one is not renewed");
    assert_eq!(world.members.loose(world.now), 1, "and may be taken still");
}

#[test]
fn without_a_limit_one_ticket_is_open_while_work_waits() {
    let mut world = world(None);
    assert_eq!(world.look(), [Action::Ticket(1)]);
    world.join("a", 1);
    assert_eq!(world.look(), [Action::Ticket(2), tell("a", Command::Alive)]);
    assert_eq!((world.members.slots(), world.members.processes()), (2, 2));
}

#[test]
fn whoever_comes_too_late_is_sent_away_and_so_is_what_is_too_much() {
    let mut world = world(Some(1));
    world.look();
    world.join("a", 1);
    world.joining("b", 1);
    assert_eq!(world.look(), [tell("a", Command::Alive), tell("b", Command::Drain)]);
    world.wanted.most = Some(0);
    assert_eq!(world.look(), [tell("a", Command::Drain)]);
    assert_eq!(world.members.slots(), 0);
    world.hear("a", NodeEvent::Left);
    world.hear("b", NodeEvent::Left);
    world.wanted.most = Some(1);
    assert_eq!(world.look(), [Action::Ticket(2)]);
}

#[test]
fn a_silent_node_is_lost_replaced_and_one_again_when_it_speaks() {
    let mut world = world(Some(1));
    world.look();
    world.join("a", 1);
    let (_, changes) = world.until(29);
    assert_eq!((changes, world.members.is_silent(&node("a"), world.now)), (vec![], true));
    let (actions, changes) = world.until(31);
    assert_eq!(changes, [Change::Lost(node("a"))]);
    assert!(actions.contains(&Action::Ticket(2)) && world.members.slots() == 0);
    world.hear("a", NodeEvent::Beat { by: None, held: vec![], doing: vec![] });
    assert_eq!(world.members.slots(), 2);
}

#[test]
fn silence_while_nobody_listens_means_nothing() {
    let mut world = world(Some(1));
    world.look();
    world.join("a", 1);
    world.now += Duration::from_secs(3600);
    assert_eq!(world.members.keep(world.wanted, world.now).1, [], "this program was stopped");
    for _ in 0..100 {
        world.now += Duration::from_secs(1);
        world.members.deaf(world.now);
        assert_eq!(world.members.keep(world.wanted, world.now).1, [], "the broker is away");
    }
}

#[test]
fn commands_are_repeated_until_the_node_has_left() {
    let mut world = world(Some(1));
    world.look();
    world.join("a", 1);
    world.look();
    world.members.end(End::Drain, world.now);
    let drains = world.until(9).0;
    assert!(drains.len() == 5 && drains.iter().all(|action| *action == tell("a", Command::Drain)), "{drains:?}");
    world.members.end(End::Kill, world.now);
    world.members.end(End::Drain, world.now);
    assert_eq!(world.look(), [tell("a", Command::Kill)]);
    assert!(!world.members.all_gone(world.now));
    world.hear("a", NodeEvent::Left);
    assert_eq!((world.look(), world.members.all_gone(world.now)), (vec![], true));
}

#[test]
fn the_job_fails_when_every_node_has_given_up_and_such_a_node_is_not_replaced() {
    let mut world = world(Some(2));
    world.look();
    world.join("a", 1);
    world.join("b", 2);
    assert_eq!(world.hear("a", NodeEvent::GaveUp { error: error() }), []);
    world.hear("a", NodeEvent::Left);
    assert!(!world.look().iter().any(|action| matches!(action, Action::Ticket(_))), "not replaced");
    let changes = world.hear("b", NodeEvent::GaveUp { error: error() });
    assert!(matches!(&changes[..], [Change::Hopeless(_)]), "{changes:?}");
}

#[test]
fn a_worker_whose_node_gave_up_is_not_taken_again() {
    let mut world = world(None);
    world.look();
    world.join("a", 1);
    world.join("b", 2);
    world.hear("a", NodeEvent::GaveUp { error: error() });
    world.hear("a", NodeEvent::Left);
    let worker = "w-a".to_string();
    world.hear("a2", NodeEvent::Joining { worker, host: "h".into(), ticket: 3, version: "0".into() });
    let actions = world.look();
    assert!(actions.iter().any(|action| matches!(action, Action::Tell { command: Command::Drain, .. })));
    assert!(!actions.iter().any(|action| matches!(action, Action::Ticket(_))), "not at once: {actions:?}");
}

#[test]
fn a_refusal_is_shown_and_the_next_ticket_comes_later() {
    let mut world = world(Some(1));
    world.look();
    assert!(world.members.waits().unwrap().ends_with("1 wanted in pool `default`, none has come"));
    let (worker, host, why) = ("w".into(), "h".into(), "no such directory".into());
    world.hear("-", NodeEvent::Refused { worker, host, ticket: 1, why });
    assert_eq!(world.look(), []);
    assert!(world.members.waits().unwrap().ends_with("worker w (h) can't join: no such directory"));
    assert_eq!(world.until(4).0, []);
    assert_eq!(world.until(6).0, [Action::Ticket(2)]);
}

#[test]
fn a_node_that_nobody_knows_says_who_it_is() {
    let mut world = world(Some(1));
    world.hear("a", NodeEvent::Left);
    let by = |name: &str, processes| {
        let by = Some(Identity { worker: name.into(), host: "h-b".into(), processes });
        NodeEvent::Beat { by, held: vec![], doing: vec![] }
    };
    world.hear("b", by("", 2));
    world.hear("b", by(&"w".repeat(300), 2));
    assert_eq!((world.members.slots(), world.members.known()), (0, vec![]));
    world.hear("b", by("w-b", 2));
    // Nobody takes its name from it.
    world.hear("b", by("w-c", 5));
    assert_eq!((world.members.slots(), world.members.processes()), (2, 2));
    assert_eq!(world.look(), [tell("b", Command::Alive)]);
    let (worker, host) = ("w-b".into(), "h-b".into());
    assert_eq!(world.members.known(), [Known { node: node("b"), worker, host, processes: 2 }]);
}

#[test]
fn the_next_coordinator_knows_whom_to_ask() {
    let mut world = world(Some(1));
    world.look();
    world.join("a", 1);
    let mut members = Members::new("default", world.members.known(), world.now);
    assert_eq!(members.ask(), [tell("a", Command::Report)]);
    assert_eq!(members.slots(), 2);
    assert_eq!(members.keep(world.wanted, world.now).0, [tell("a", Command::Alive)]);
}
