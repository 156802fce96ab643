//! The component that this package builds: the job service.

use crate::jobs::config::Config;
use crate::jobs::http::{cors, handle, patience};
use crate::{BODY_LIMIT, IDLE};

crate::export!(
    handle,
    limit = Config::get().map_or(BODY_LIMIT, |config| config.body),
    idle = Config::get().map_or(IDLE, |config| config.idle),
    patience = patience,
    early = cors::mark_early
);
