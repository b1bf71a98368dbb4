"""The reader of a volume against the real API server: Pod Security `restricted` admits it, its answer is stored in it and read back,
and it goes when it is needed no more. The kubelet's part, the termination message, is written by the test.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from polyfleet import volume_shape
from polyfleet.state import Observed

from hwprofiles import catalogue
from tests.control.cycling import NAMESPACE, Kubectl, condition, model, operator, policy, run

pytestmark = pytest.mark.control

URI = "pvc://models/glm-9b"
IMAGE = "registry.example/polyfleet:test"
RESTRICTED = "pod-security.kubernetes.io/enforce"


def test_a_reader_is_made_once_answers_and_goes(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    name = volume_shape.reader_name("glm", URI)
    weights = {"uri": URI}
    entry = catalogue.find("zai-org/GLM-4-9B-0414")
    assert entry is not None

    def pods(seen: Observed) -> list[str]:
        return [pod.name for pod in seen.pods if volume_shape.is_reader(pod)]

    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            op.cycle.image = IMAGE
            await op.apply(policy(), model("glm", model=weights))
            seen = await op.until("a reader is there", lambda seen: pods(seen) == [name])
            (state,) = seen.model_deployments
            waiting = volume_shape.known(seen, state, URI)
            assert waiting is not None
            assert waiting.shape is None
            assert f"pod {name}" in waiting.message
            assert condition(seen, "glm", "ProfilesResolved")[:2] == ("False", "ModelShapeUnknown")
            await op.until("the reader is named", lambda seen: name in condition(seen, "glm", "ProfilesResolved")[2], 15)
            found = json.loads(await op.hand("-n", NAMESPACE, "get", "pod", name, "-o", "json"))
            assert found["metadata"]["ownerReferences"][0]["kind"] == "ModelDeployment"
            assert found["spec"]["automountServiceAccountToken"] is False
            await op.rests()

            ended = {"terminated": {"exitCode": 0, "reason": "Completed", "message": volume_shape.answer(entry.shape, entry.precision)}}
            status = {"name": volume_shape.CONTAINER, "image": IMAGE, "imageID": "", "ready": False, "restartCount": 0, "state": ended}
            patch = json.dumps({"status": {"phase": "Succeeded", "containerStatuses": [status]}})
            await op.hand("-n", NAMESPACE, "patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)

            def read(seen: Observed) -> bool:
                answer = volume_shape.known(seen, state, URI)
                return answer is not None and answer.shape == entry.shape and answer.precision == "bf16"

            await op.until("the answer is read", read)
            await op.until("it can be placed", lambda seen: condition(seen, "glm", "ProfilesResolved")[0] == "True")

        async with operator(apiserver, clean, folder=tmp_path) as op:  # a restart finds the answer where it was
            op.cycle.image = IMAGE
            assert read(await op.turn())
            await op.apply(model("glm", model={**weights, "footprint": "24Gi"}))
            await op.until("the reader is gone", lambda seen: not pods(seen))

    clean("label", "--overwrite", "namespace", NAMESPACE, f"{RESTRICTED}=restricted", check=True)
    try:
        run(scenario)
    finally:
        clean("label", "namespace", NAMESPACE, f"{RESTRICTED}-", check=True)


def test_without_an_image_of_its_own_the_operator_makes_none(apiserver: Path, clean: Kubectl, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with operator(apiserver, clean, folder=tmp_path) as op:
            assert replace(op.cycle).image == ""
            await op.apply(policy(), model("glm", model={"uri": URI}))
            seen = await op.rests()
            assert [pod for pod in seen.pods if volume_shape.is_reader(pod)] == []

    run(scenario)
