"""A witness of logs: it cosigns a head only where that head appends to every head that it cosigned before.

`request` is what is asked, `decision` the pure rule, `store` what outlives a crash, `service` the three
together; `server` serves them over HTTP and `client` asks another's witness.

Source: C2SP tlog-witness v1.0.0; docs/spec/witness.md.
"""
