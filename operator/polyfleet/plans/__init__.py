"""PlacementPlan objects: what was decided, written before it is acted on, so that a crash in between ends in this plan or in the old one.

`judge` is the entry point: the stored objects, this cycle's inputs and the placer's fresh plan in; what to act on, what to write and
what to say out. Everything here but `writer` is pure.

A plan is *begun* once something of it was done. The plan *in force* is the newest that was begun. What is being carried out stays
as it was written while it still fits and nothing much better is known (`realise`), so a restart, or a tie that the solver breaks
otherwise, changes nothing.
"""
