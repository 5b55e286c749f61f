"""The real emitters that tests run against: how each is built or found, started and stopped."""
