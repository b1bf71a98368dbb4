"""The closed form beside published figures and beside an independent calculation of the same form.

Two kinds of outside values. *Published*: output tokens/s of the instance, from vllm-ascend nightly CI, SGLang NPU CI, MLPerf Inference
v5.1, the CloudMatrix384 paper, LMSYS and aiconfigurator 0.12.0 (a prediction). *Table*: what other code computed from the same formulas; it
holds our arithmetic to theirs. Not independent of the table are the latency and the bytes of the expert exchange, which no source states
and which were chosen so that its mixture-of-experts rows come out; the dense rows rest on nothing that was chosen for them.
Inputs are those of the sources: lengths and batch as listed. Everything that a source does not say is written
beside the point as `assumed`. Prediction errors are printed: `pytest -s tests/unit/hwprofiles/test_calibration.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from hwprofiles import Layout
from hwprofiles.estimate import Estimate, Hardware, LayoutClass, Load, Slo, estimate
from hwprofiles.shape import Shape

GIB, TERA, GIGA = float(1 << 30), 1e12, 1e9


def experts(layers: int, count: int, hidden: int, inner: int) -> float:
    """Billions of parameters in routed experts: three matrices each (gate, up, down)."""
    return layers * count * 3 * hidden * inner / 1e9


# Shapes by hand from the models' published config.json; parameter counts as the model cards state them.
QWEN3_8B = Shape(8.2, 8.2, 36, 4096, 32, 8, 128)
QWEN3_32B = Shape(32.8, 32.8, 64, 5120, 64, 8, 128)
QWEN3_30B = Shape(30.5, 3.3, 48, 2048, 32, 4, 128, experts=128, experts_per_token=8, expert_params_b=experts(48, 128, 2048, 768))
QWEN3_235B = Shape(235.0, 22.0, 94, 4096, 64, 4, 128, experts=128, experts_per_token=8, expert_params_b=experts(94, 128, 4096, 1536))
# 58 of the 61 layers have experts; latent 512 + rope 64.
DEEPSEEK_R1 = Shape(
    671.0, 37.0, 61, 7168, 128, 128, 128, experts=256, experts_per_token=8, expert_params_b=experts(58, 256, 7168, 2048), kv_lora=576
)
LLAMA2_70B = Shape(69.0, 69.0, 80, 8192, 64, 8, 128)
LLAMA31_8B = Shape(8.03, 8.03, 32, 4096, 32, 8, 128)
LLAMA31_70B = Shape(70.6, 70.6, 80, 8192, 64, 8, 128)
LLAMA31_405B = Shape(405.0, 405.0, 126, 16384, 128, 8, 128)

# Devices by hand from hardware data (aiconfigurator system files, Ascend msmodeling, CloudMatrix384 paper); efficiency = planning defaults.
ASCEND = Hardware(
    memory_bytes=64 * GIB,
    bandwidth=1.76 * TERA,
    peaks={"bf16": 353.9 * TERA, "fp16": 376 * TERA, "w8a8": 752 * TERA},
    mfu=0.4,
    mbu=0.6,
    step_overhead_s=0.010,
    node_link=196 * GIGA,
    cross_link=196 * GIGA,
)
A3 = ASCEND
A2 = replace(ASCEND, peaks={"bf16": 294.9 * TERA, "fp16": 313 * TERA, "w8a8": 626 * TERA}, cross_link=25 * GIGA)
H100 = Hardware(
    memory_bytes=80 * GIB,
    bandwidth=3.35 * TERA,
    peaks={"bf16": 989 * TERA, "fp8": 1978 * TERA},
    mfu=0.5,
    mbu=0.7,
    step_overhead_s=0.004,
    node_link=450 * GIGA,
    cross_link=50 * GIGA,
)
H200 = replace(H100, memory_bytes=141e9, bandwidth=4.8 * TERA)
H20 = replace(H100, memory_bytes=96 * GIB, bandwidth=4.0 * TERA, peaks={"bf16": 148 * TERA, "fp8": 296 * TERA})
MI300X = replace(H100, memory_bytes=192 * GIB, bandwidth=5.3 * TERA, peaks={"bf16": 1307 * TERA, "fp8": 2615 * TERA})
B200 = replace(H100, memory_bytes=180 * GIB, bandwidth=7.7 * TERA, peaks={"bf16": 2250 * TERA, "fp8": 4500 * TERA}, node_link=900 * GIGA)
A100 = replace(H100, bandwidth=2.039 * TERA, peaks={"bf16": 312 * TERA}, node_link=300 * GIGA)
# assumed: PCIe 4.0 x16 between L40S, 32 GB/s one way
L40S = replace(
    H100, memory_bytes=46068 * float(1 << 20), bandwidth=0.864 * TERA, peaks={"bf16": 362 * TERA, "fp8": 733 * TERA}, node_link=32e9
)


@dataclass(frozen=True)
class Point:
    name: str
    shape: Shape
    hardware: Hardware
    layout: Layout
    precision: str
    load: Load
    published: float
    table: float
    kv: str | None = None
    assumed: str = ""
    differs: str = ""  # why our figure is not the table's, where it is more than 10 % off

    def closed_form(self) -> Estimate:
        found = estimate(self.shape, self.hardware, self.layout, self.precision, self.load, kv_precision=self.kv)
        assert isinstance(found, Estimate), found
        return found


CI = Load(3500, 1500)
IN_NODE = [
    Point("910B3 Qwen3-32B tp4 c72", QWEN3_32B, A2, Layout(tensor=4), "w8a8", replace(CI, concurrency=72), 1065, 1349),
    Point("A3 Qwen3-32B tp4 c76", QWEN3_32B, A3, Layout(tensor=4), "w8a8", replace(CI, concurrency=76), 1327, 1429),
    Point("A3 Qwen3-30B-A3B tp1 c45", QWEN3_30B, A3, Layout(), "w8a8", replace(CI, concurrency=45), 812, 776),
    Point("A3 DeepSeek-R1 tp8 dp2 c32", DEEPSEEK_R1, A3, Layout(tensor=8, data=2), "w8a8", replace(CI, concurrency=32), 657, 695),
    Point(
        "A3 Qwen3-235B dp16 c432",
        QWEN3_235B,
        A3,
        Layout(data=16, expert=16),
        "w8a8",
        replace(CI, concurrency=432),
        6189,
        6074,
        assumed="the source says tp16 dp16: read as 16 attention groups of one die",
    ),
    Point(
        "A3 Qwen3-30B-A3B tp2 c160",
        QWEN3_30B,
        A3,
        Layout(tensor=2, expert=2),
        "w8a8",
        replace(CI, concurrency=160),
        3200,
        2333,
        assumed="experts exchanged between the two dies (with experts cut by tensor parallelism: 2512)",
    ),
    Point(
        "A3 Qwen3-32B EAGLE3 c100",
        QWEN3_32B,
        A3,
        Layout(tensor=4),
        "w8a8",
        replace(CI, concurrency=100),
        1600,
        1563,
        assumed="no gain from speculative decoding, although the published run has it",
    ),
    Point(
        "H100 Qwen3-32B FP8 tp2 c112",
        QWEN3_32B,
        H100,
        Layout(tensor=2),
        "fp8",
        replace(CI, concurrency=112),
        2255,
        2202,
        assumed="16-bit KV, so that memory holds 103 of the 112; published is itself a prediction",
    ),
    Point(
        "H200 llama2-70B FP8 offline",
        LLAMA2_70B,
        H200,
        Layout(),
        "fp8",
        Load(294, 294),
        4376,
        3516,
        kv="fp8",
        assumed="mean lengths 294/294, 8-bit KV, batch = what memory holds",
    ),
    Point(
        "MI300X llama2-70B FP8 offline",
        LLAMA2_70B,
        MI300X,
        Layout(),
        "fp8",
        Load(294, 294),
        3468,
        4627,
        kv="fp8",
        assumed="mean lengths 294/294, 8-bit KV, batch = what memory and the engine's 1024 requests allow",
    ),
    Point(
        "H200 llama3.1-405B FP8 tp8",
        LLAMA31_405B,
        H200,
        Layout(tensor=8),
        "fp8",
        Load(9428, 684),
        551,
        411,
        kv="fp8",
        assumed="mean lengths 9428/684, 8-bit KV, batch = what memory holds; published 68.9 per accelerator times 8",
    ),
]
MULTI_NODE = [
    Point(
        "A2 Qwen3-235B BF16 2 nodes",
        QWEN3_235B,
        A2,
        Layout(tensor=8, data=2, span=2),
        "bf16",
        replace(CI, concurrency=256),
        1152,
        2838,
        differs="the table takes the node's 196 GB/s link for the expert exchange too; it crosses nodes at 25 GB/s, the slowest link"
        " of that group (with 196: 2838)",
    ),
    Point("A3 Qwen3-235B BF16 2 nodes", QWEN3_235B, A3, Layout(tensor=8, data=4, span=2), "bf16", replace(CI, concurrency=700), 2210, 7701),
]


@pytest.mark.parametrize("point", IN_NODE, ids=lambda point: point.name)
def test_in_node_points(point: Point) -> None:
    """Each of the 11 published points inside one node lies within 0.7 to 1.4 of the closed form; ours is the table's within 10 %."""
    found = point.closed_form().underated
    print(
        f"\n{point.name:32} published {point.published:6.0f} estimate {found:6.0f} error {found / point.published - 1:+.0%}"
        f" table {point.table:6.0f} ({found / point.table - 1:+.1%})  {point.assumed}"
    )
    assert 0.7 <= found / point.published <= 1.4
    assert found == pytest.approx(point.table, rel=0.10)


def test_there_are_thirteen() -> None:
    """All points of the calibration are here, eleven of them in one node."""
    assert (len(IN_NODE), len(MULTI_NODE)) == (11, 2)


@pytest.mark.parametrize("point", MULTI_NODE, ids=lambda point: point.name)
def test_multi_node_points(point: Point) -> None:
    """Untuned replicas over two nodes do a fraction of the closed form; the derated lower bound covers what was published."""
    found = point.closed_form()
    print(
        f"\n{point.name:32} published {point.published:6.0f} closed form {found.underated:6.0f} (table {point.table:.0f}) derated"
        f" {found.output_tokens_per_s:6.0f} lower {found.lower:6.0f}  {point.differs}"
    )
    assert found.layout_class is LayoutClass.CROSS_NODE
    assert found.derate == 0.35
    assert found.lower <= point.published
    assert found.upper is None
    if point.differs:
        same_link = replace(point, hardware=replace(point.hardware, cross_link=point.hardware.node_link))
        assert same_link.closed_form().underated == pytest.approx(point.table, rel=0.01)
    else:
        assert found.underated == pytest.approx(point.table, rel=0.01)


@pytest.mark.parametrize("point", IN_NODE, ids=lambda point: point.name)
def test_planning_bounds_cover_every_point(point: Point) -> None:
    """Whatever class a layout falls into, the lower bound is not above what was published, and an upper bound not below it."""
    found = point.closed_form()
    assert found.lower <= point.published
    assert found.upper is None or found.upper >= point.published


# (name, device, published tokens/s per unit, table, units, load per unit: batch, context as input + output/2, tolerance of the table)
def wide(units: int, batch: int, context: int, hardware: Hardware, precision: str, span: int) -> float:
    """Decode only, attention data parallel = expert parallel over `units`; output 2 tokens so that the mean context is the given one."""
    layout = Layout(data=units, expert=units, span=span)
    found = estimate(DEEPSEEK_R1, hardware, layout, precision, Load(context - 1, 2, batch * units), split=True)
    assert isinstance(found, Estimate), found
    assert found.layout_class is LayoutClass.PD_WIDE_EP
    assert found.derate == 0.8
    return found.underated / units


def test_wide_expert_parallel_points() -> None:
    """Decode of DeepSeek-R1 with wide expert parallelism, per unit, beside the table; the slowest link of the group decides.

    Assumed, as in the table: batch 48 on CloudMatrix (chosen there to meet 50 ms) at 4k context, 2k context at batch 256 on H100,
    batch 32 to 48 at 4k context on H20, 50 GB/s between nodes of H100 and H20, 16-bit KV.
    """
    rows = [
        ("CloudMatrix 910C 320 dies b48", 972, 1002, wide(320, 48, 4096, A3, "w8a8", 20)),
        ("72 x H100 b256, 50 GB/s", 2787, 2339, wide(72, 256, 2048, H100, "fp8", 9)),
        ("72 x H100 b256, NVLink assumed", 2787, 6212, wide(72, 256, 2048, replace(H100, cross_link=450e9), "fp8", 9)),
        ("16 x H20 b32", 712, 842, wide(16, 32, 4096, H20, "fp8", 2)),
        ("16 x H20 b48", 712, 1085, wide(16, 48, 4096, H20, "fp8", 2)),
    ]
    for name, published, table, found in rows:
        print(
            f"\n{name:32} published {published:5} estimate {found:6.0f} error {found / published - 1:+.0%}"
            f" table {table} ({found / table - 1:+.1%})"
        )
        assert found == pytest.approx(table, rel=0.10), name
    assert rows[0][3] * 0.8 / 1.4 <= 972
    assert rows[2][3] > 2 * rows[1][3]


TOOL = Slo(itl_s=0.050)
# (device, model, layout, precision, tokens/s per unit of aiconfigurator 0.12.0, its table ratio estimate / tool, tolerance)
CELLS = [
    ("H100", H100, QWEN3_32B, Layout(tensor=2), "fp8", 1128, 1.12),
    ("H200", H200, QWEN3_32B, Layout(), "fp8", 1334, 1.30),
    ("H100", H100, QWEN3_8B, Layout(tensor=2), "bf16", 3046, 0.83),
    ("H200", H200, QWEN3_8B, Layout(), "bf16", 4249, 0.83),
    ("H100", H100, LLAMA31_70B, Layout(tensor=8), "bf16", 551, 0.92),
    ("H200", H200, LLAMA31_70B, Layout(tensor=4), "bf16", 736, 0.88),
    ("H100", H100, LLAMA31_8B, Layout(tensor=2), "bf16", 3376, 0.84),
    ("H200", H200, LLAMA31_8B, Layout(), "bf16", 4684, 0.84),
    ("H100", H100, QWEN3_30B, Layout(data=2), "fp8", 4760, 0.82),
    ("H200", H200, QWEN3_30B, Layout(), "fp8", 5438, 1.03),
    ("H100", H100, QWEN3_235B, Layout(data=8, expert=8), "fp8", 427, 2.5),
    ("H200", H200, QWEN3_235B, Layout(data=8, expert=8), "fp8", 512, 3.2),
    ("H200", H200, DEEPSEEK_R1, Layout(data=8), "fp8", 408, 2.4),
    ("B200", B200, QWEN3_8B, Layout(), "bf16", 7437, 0.83),
    ("B200", B200, LLAMA31_8B, Layout(), "bf16", 8281, 0.83),
    ("B200", B200, LLAMA31_70B, Layout(tensor=4), "bf16", 1337, 1.02),
    ("B200", B200, QWEN3_30B, Layout(), "fp8", 7072, 1.38),
    ("A100", A100, QWEN3_8B, Layout(), "bf16", 1367, 0.95),
    ("A100", A100, LLAMA31_8B, Layout(tensor=2), "bf16", 1472, 0.95),
    ("A100", A100, QWEN3_32B, Layout(tensor=4), "bf16", 412, 1.04),
    ("A100", A100, LLAMA31_70B, Layout(tensor=8), "bf16", 185, 1.12),
    ("A100", A100, QWEN3_30B, Layout(tensor=4), "bf16", 1395, 1.41),
    ("L40S", L40S, QWEN3_8B, Layout(tensor=2), "bf16", 564, 0.89),
    ("L40S", L40S, LLAMA31_8B, Layout(tensor=2), "bf16", 640, 0.85),
]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0]}-{cell[2].params_b:g}B")
def test_beside_aiconfigurator(cell: tuple[str, Hardware, Shape, Layout, str, float, float]) -> None:
    """At MFU 0.6, MBU 0.8, 4 ms, in the tool's layout and at TPOT 50 ms the ratio to the tool is the table's within 10 %.

    Agreement with another model, not with hardware; the tool's batch is left free, since its own is not what our memory model holds.
    Left out, because the table took layouts that it does not name: DeepSeek-R1 on B200 (ours 3.10, table 2.78), Qwen3-235B on A100
    (1.30, 1.07), Qwen3-30B-A3B on L40S (2.98, 3.36), and the two outliers of the tool itself.
    """
    name, hardware, shape, layout, precision, tool, ratio = cell
    found = estimate(shape, replace(hardware, mfu=0.6, mbu=0.8), layout, precision, CI, TOOL)
    assert isinstance(found, Estimate), found
    ours = found.underated / layout.devices / tool
    print(f"\n{name} {shape.params_b:g}B: estimate / tool {ours:.2f}, table {ratio:.2f}")
    assert ours == pytest.approx(ratio, rel=0.10)


# aiconfigurator's `silicon_refs`, measured by its authors: (name, shape, device, layout, precision, load, TTFT s, TPOT s)
ANCHORS = [
    ("DeepSeek-R1 8xH200", DEEPSEEK_R1, H200, Layout(tensor=8), "fp8", Load(1000, 1000, 16), 0.286, 0.0166),
    ("Qwen3-32B 2xH100", QWEN3_32B, H100, Layout(tensor=2), "bf16", Load(1000, 1000, 32), 0.237, 0.0201),
    ("Qwen3-32B FP8 1xH100", QWEN3_32B, H100, Layout(), "fp8", Load(1000, 128, 32), 0.357, 0.0362),
]


@pytest.mark.parametrize("anchor", ANCHORS, ids=lambda anchor: anchor[0])
def test_latency_anchors(anchor: tuple[str, Shape, Hardware, Layout, str, Load, float, float]) -> None:
    """Measured latencies: time per token within 0.6 to 1.4, time to first token within a factor of three (it is the weaker figure)."""
    name, shape, hardware, layout, precision, load, ttft, tpot = anchor
    found = estimate(shape, hardware, layout, precision, load)
    assert isinstance(found, Estimate), found
    print(
        f"\n{name:24} TTFT {found.ttft_s * 1e3:4.0f} ms, measured {ttft * 1e3:4.0f};"
        f" TPOT {found.itl_s * 1e3:5.1f} ms, measured {tpot * 1e3:5.1f}"
    )
    assert 0.6 <= found.itl_s / tpot <= 1.4
    assert 1 / 3 <= found.ttft_s / ttft <= 3
