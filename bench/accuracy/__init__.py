"""The accuracy gate judged: how often it promotes and blocks what the fault corpus holds, beside the gates in use elsewhere."""
