"""The names of all metrics, and the text that Prometheus reads.

Names are Triton's (``nv_inference_…``) and KServe's (``request_…_seconds``) where they have one for the same
thing; what nobody else has begins with ``s3ml_``. Every label has a closed set of values.

The text is written here because `prometheus_client` adds 1.6 MB of resident memory and 30 measured files to
the enclave, and puts ``_total`` behind every counter, which Triton's names do not have.

Source: Prometheus text exposition format 0.0.4; Triton Inference Server, "Metrics"; KServe, "Prometheus
metrics".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

# A sample's name, and the value of the label that its family has beside the service; empty without one.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric.

    Args:
        kind: What Prometheus calls its type; a summary here has a sum and a count, and no quantiles.
        text: What it means, one line.
        label: The label beside the service, if there is one.
    """

    kind: Literal["counter", "gauge", "summary"]
    text: str
    label: str | None = None

    def suffixes(self) -> tuple[str, ...]:
        """Return what its samples' names add to its own."""
        return ("_sum", "_count") if self.kind == "summary" else ("",)


def _counter(text: str, label: str | None = None) -> Family:
    return Family(kind="counter", text=text, label=label)


def _gauge(text: str, label: str | None = None) -> Family:
    return Family(kind="gauge", text=text, label=label)


def _summary(text: str) -> Family:
    return Family(kind="summary", text=text)


# Known from outside: shown as it stands at each renewal.
OUTER: Mapping[str, Family] = {
    "s3ml_rejections_total": _counter("Requests that got a plain reply, by its reason.", "reason"),
    "s3ml_ready": _gauge("Whether traffic should come to this replica."),
    "s3ml_draining": _gauge("Whether the process is about to end."),
    "s3ml_models": _gauge("Model versions by state.", "state"),
    "s3ml_in_flight_requests": _gauge("Requests under way, queued ones included."),
    "nv_inference_pending_request_count": _gauge("Those of them that wait for their turn to be computed."),
    "s3ml_reserved_bytes": _gauge("What requests under way hold of the budget of bytes."),
    "s3ml_budget_bytes": _gauge("The budget of bytes for requests under way."),
    "s3ml_lease_seconds": _gauge("What is left of the lease on the keys; 0 without one."),
    "s3ml_model_memory_bytes": _gauge("What loaded models hold of their budget of memory."),
    "s3ml_model_memory_budget_bytes": _gauge("The budget of memory for models."),
    "process_resident_memory_bytes": _gauge("Resident memory, where the system tells."),
    "process_start_time_seconds": _gauge(
        "When the process began, in seconds since 1970 by the host's clock."
    ),
    "s3ml_build_info": _gauge("1, with the version of this code.", "version"),
}
# Known inside the seal alone: shown in groups of several answers.
SEALED: Mapping[str, Family] = {
    "nv_inference_request_success": _counter("Inference requests that got a result."),
    "nv_inference_request_failure": _counter(
        "Inference requests that did not, by Triton's reasons.", "reason"
    ),
    "nv_inference_count": _counter("Inferences computed: a request of n rows counts n."),
    "nv_inference_exec_count": _counter("Executions of a model: one for each batch."),
    "nv_inference_request_duration_us": _counter("From a whole body to its sealed answer, summed up."),
    "nv_inference_queue_duration_us": _counter("Waiting to be computed, summed up over requests."),
    "nv_inference_compute_infer_duration_us": _counter("Being computed, summed up over requests."),
    "nv_inference_compute_output_duration_us": _counter("Encoding of results, summed up over requests."),
    "request_preprocess_seconds": _summary("Opening, letting through and decoding."),
    "request_predict_seconds": _summary("Waiting and being computed."),
    "request_postprocess_seconds": _summary("Encoding and sealing."),
}
# Both: some outcomes are seen from outside, others are not.
MIXED: Mapping[str, Family] = {"s3ml_requests_total": _counter("Requests by what became of them.", "outcome")}
FAMILIES: Mapping[str, Family] = {**MIXED, **OUTER, **SEALED}


def exposition(values: Mapping[Key, float], *, service: str) -> bytes:
    """Return samples as text, each with the service as its label; families without a sample are left out.

    Args:
        values: By name and label value. Names are in `FAMILIES`; label values come from fixed sets.
        service: A checked name.
    """
    lines: list[str] = []
    for name, family in FAMILIES.items():
        samples = list(_samples(name, family, values, service))
        if samples:
            lines += [f"# HELP {name} {family.text}", f"# TYPE {name} {family.kind}", *samples]
    return ("\n".join(lines) + "\n").encode()


def _samples(name: str, family: Family, values: Mapping[Key, float], service: str) -> Iterable[str]:
    for sample in (name + suffix for suffix in family.suffixes()):
        for (known, label), value in values.items():
            if known == sample:
                own = "" if family.label is None else f',{family.label}="{label}"'
                yield f'{sample}{{service="{service}"{own}}} {_number(value)}'


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
