// one test binary over the public API
