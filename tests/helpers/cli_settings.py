"""Overrides of the command line for tiny runs."""

TINY = [
    "data.num_identities=12",
    "data.num_test=6",
    "data.num_cameras=2",
    "data.shots=3",
    "data.image_height=64",
    "data.image_width=32",
    "data.height=64",
    "data.width=32",
    "data.num_workers=0",
]
TRAIN = [*TINY, "data.batch_size=12", "trainer.max_epochs=2", "callbacks.progress=null"]
