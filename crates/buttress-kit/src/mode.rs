use serde::{Deserialize, Serialize};

/// Whether a rule refuses calls, or only counts the ones it would have refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "\"enforce\" or \"shadow\"")]
#[non_exhaustive]
pub enum Mode {
    /// Refuses. The default.
    #[default]
    Enforce,
    /// Decides and counts, and refuses nothing: for trying a rule on live traffic.
    Shadow,
}
