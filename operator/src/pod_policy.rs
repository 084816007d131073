//! What a pod template may ask for beyond an ordinary application: nothing, unless who installed the operator allows it.
//!
//! Whoever may create an `Aof2Cluster` makes pods with it. Without this they would be any pods: RBAC for `aof2clusters` would be RBAC for
//! the nodes. `cluster::validate` judges templates by it.

/// Who gives the user of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Users {
    /// We do, always the same.
    #[default]
    Fixed,
    /// The platform does, one for each namespace, and rejects pods that name another (OpenShift).
    Assigned,
}

/// What `--allow-in-pods` and the chart's `podTemplates.allow` open: `field`, or `field=value` for one value of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    allowed: Vec<Allowed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    field: String,
    /// `None`: every value.
    value: Option<String>,
}

/// Everything that can be opened.
const FIELDS: [&str; 32] = [
    "allowPrivilegeEscalation",
    "annotations",
    "appArmorProfile",
    "capabilities",
    "ephemeralContainers",
    "host",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "hostUsers",
    "mountPropagation",
    "nodeName",
    "persistentVolumeClaim",
    "priority",
    "priorityClassName",
    "privileged",
    "procMount",
    "resourceClaims",
    "runAsNonRoot",
    "runAsUser",
    "runtimeClassName",
    "schedulerName",
    "seLinuxOptions",
    "seccompProfile",
    "secret",
    "serviceAccountName",
    "shareProcessNamespace",
    "sysctls",
    "tolerations",
    "volumes",
    "windowsOptions",
];

impl Allowed {
    /// For the command line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (field, value) = match text.split_once('=') {
            Some((field, value)) => (field, Some(value.to_owned())),
            None => (text, None),
        };
        if field != "*" && !FIELDS.contains(&field) {
            let known = FIELDS.join(", ");
            return Err(format!("{field} opens nothing; known are {known} and *"));
        }
        Ok(Self {
            field: field.to_owned(),
            value,
        })
    }
}

impl Policy {
    pub fn new(allowed: Vec<Allowed>) -> Self {
        Self { allowed }
    }

    pub fn permits(&self, field: &str, value: &str) -> bool {
        self.allowed.iter().any(|entry| {
            (entry.field == "*" || entry.field == field)
                && entry.value.as_deref().is_none_or(|only| only == value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_opens_a_field_or_one_value_of_it() {
        let policy = |entries: &[&str]| {
            Policy::new(
                entries
                    .iter()
                    .map(|entry| Allowed::parse(entry).expect("known"))
                    .collect(),
            )
        };
        let one = policy(&["serviceAccountName=vault", "hostNetwork"]);
        assert!(one.permits("serviceAccountName", "vault"));
        assert!(!one.permits("serviceAccountName", "aof2-operator"));
        assert!(one.permits("hostNetwork", "true"));
        assert!(!one.permits("hostPID", "true"));
        assert!(policy(&["*"]).permits("hostPID", "true"));
        assert!(!Policy::default().permits("hostPID", "true"));
        let error = Allowed::parse("hostNetwrok").expect_err("unknown");
        assert!(
            error.contains("hostNetwrok") && error.contains("hostNetwork"),
            "{error}"
        );
    }
}
