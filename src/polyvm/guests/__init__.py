"""Guest programs that ship with polyvm; `guests/build` makes them from the C sources in `guests/`."""
