//! A file of `policy.d`, and what holds while it will not do.

use std::collections::BTreeSet;
use std::sync::Arc;

use quantum_config::policy::{Document, Format, OrderedPolicy, Reach, documents, read};

use super::{Holder, Taken};

/// A file of `policy.d`.
#[derive(Debug, Clone)]
pub(super) struct PolicyFile {
    /// What it said when all of it was good.
    good: Option<Arc<str>>,
    /// What holds of it.
    documents: Vec<Arc<Document>>,
    /// Why what it says now does not hold.
    problem: Option<String>,
}

/// A document that will not do.
struct Fault {
    /// Which of the file's, from 1; none if it is the file as a whole.
    number: Option<usize>,
    why: String,
    reach: Reach,
    /// Somebody else holds a document of its key.
    is_held: bool,
}

impl PolicyFile {
    /// What a file means that says `text` and said `last` when it was last good. What holds of it is
    /// added to `taken`.
    pub(super) fn new(
        name: &str,
        text: Result<Vec<u8>, String>,
        last: Option<Arc<str>>,
        taken: &mut Taken,
    ) -> Self {
        let text = text
            .map_err(|e| format!("cannot be read: {e}"))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|e| format!("is not UTF-8: {e}")));
        let (found, faults) = match &text {
            Ok(text) => parse(name, text, taken),
            Err(why) => (Vec::new(), vec![Fault::of_file(why.clone())]),
        };
        let Some(problem) = told(&faults) else {
            take(name, &found, taken);
            let good = text.ok().map(Arc::from);
            return Self { good, documents: found, problem: None };
        };
        match last {
            Some(last) => Self { problem: Some(problem), ..Self::restored(name, last, taken) },
            None => {
                take(name, &found, taken);
                let documents = with_stand_ins(name, found, &faults);
                Self { good: None, documents, problem: Some(problem) }
            }
        }
    }

    /// What a file means that was good when it said `last`. Others may have taken some of its documents
    /// since, and hold them; and a later release may read it otherwise.
    pub(super) fn restored(name: &str, last: Arc<str>, taken: &mut Taken) -> Self {
        let (found, mut faults) = parse(name, &last, taken);
        take(name, &found, taken);
        faults.retain(|fault| !fault.is_held);
        let problem = told(&faults);
        Self { good: Some(last), documents: with_stand_ins(name, found, &faults), problem }
    }

    /// What stands in for a directory that cannot be read.
    pub(super) fn unread(dir: &str, why: &str) -> Self {
        let faults = [Fault::of_file(why.to_owned())];
        let documents = with_stand_ins(dir, Vec::new(), &faults);
        Self { good: None, documents, problem: Some(why.to_owned()) }
    }

    /// What it said when all of it was good.
    pub(super) fn good(&self) -> Option<Arc<str>> {
        self.good.clone()
    }

    /// What holds of it.
    pub(super) fn documents(&self) -> &[Arc<Document>] {
        &self.documents
    }

    /// Why what it says now does not hold.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

impl Fault {
    fn of_file(why: String) -> Self {
        Self { number: None, why, reach: Reach::everything(), is_held: false }
    }
}

/// The documents of a text that will do, and those that will not.
fn parse(name: &str, text: &str, taken: &Taken) -> (Vec<Arc<Document>>, Vec<Fault>) {
    let format = if name.ends_with(".json") { Format::Json } else { Format::Yaml };
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (n, value) in documents(text, format).into_iter().enumerate() {
        let number = Some(n + 1);
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                faults.push(Fault::of_file(error.to_string()));
                continue;
            }
        };
        match read(&value) {
            Ok(document) => {
                let key = document.key();
                let held = match seen.contains(&key) {
                    true => Some(format!("{key} is in {name} twice")),
                    false => taken.get(&key).map(|holder| holder.of(&key)),
                };
                match held {
                    None => {
                        seen.insert(key);
                        found.push(Arc::new(document));
                    }
                    Some(why) => {
                        let reach = Reach::of(&document);
                        faults.push(Fault { number, why, reach, is_held: true });
                    }
                }
            }
            Err(error) => {
                let (why, reach) = (error.to_string(), Reach::of_unread(&value));
                faults.push(Fault { number, why, reach, is_held: false });
            }
        }
    }
    (found, faults)
}

fn take(name: &str, found: &[Arc<Document>], taken: &mut Taken) {
    taken.extend(found.iter().map(|document| (document.key(), Holder::File(name.to_owned()))));
}

fn with_stand_ins(
    name: &str,
    mut found: Vec<Arc<Document>>,
    faults: &[Fault],
) -> Vec<Arc<Document>> {
    let stand_in = |fault: &Fault| {
        let called = match fault.number {
            Some(number) => format!("{name}, document {number}"),
            None => name.to_owned(),
        };
        let policy = OrderedPolicy::broken(called, &fault.why, fault.reach.clone());
        Arc::new(Document::Ordered(policy))
    };
    found.extend(faults.iter().map(stand_in));
    found
}

/// The faults in a line; none if there are none.
fn told(faults: &[Fault]) -> Option<String> {
    let each: Vec<&str> = faults.iter().map(|fault| fault.why.as_str()).collect();
    (!each.is_empty()).then(|| each.join("; "))
}
