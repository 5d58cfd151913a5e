//! buttress for http types: verdicts for responses, Retry-After, what may be repeated, rejections as responses
