"""A client made of the generated stubs and JSON, without the SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from harness.processes import running_cluster

from perdure.wire.v1 import calls_pb2, calls_pb2_grpc, cluster_pb2, cluster_pb2_grpc

pytestmark = pytest.mark.cluster

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    data = tmp_path_factory.mktemp("stubs") / "data"
    with (
        running_cluster(EXAMPLES / "cart.py", data) as cluster,
        grpc.insecure_channel(cluster.address) as opened,
    ):
        yield opened


def test_stubs_and_json_create_call_and_read_an_object(channel: grpc.Channel) -> None:
    calls = calls_pb2_grpc.CallsStub(channel)
    cart = {"type": "ShoppingCart", "id": "from-stubs"}

    created = calls.Call(
        calls_pb2.CallRequest(**cart, operation=calls_pb2.OPERATION_GET_OR_CREATE), timeout=30
    )
    arguments = {"item": "sku-1", "name": "teapot", "price": "24.90", "quantity": 2}
    added = calls.Call(
        calls_pb2.CallRequest(**cart, method="add", arguments=as_json(arguments)), timeout=30
    )
    order = calls.Call(
        calls_pb2.CallRequest(**cart, method="checkout", idempotency_key="click-1"), timeout=30
    )
    again = calls.Call(
        calls_pb2.CallRequest(**cart, method="checkout", idempotency_key="click-1"), timeout=30
    )
    state = calls.Call(calls_pb2.CallRequest(**cart, operation=calls_pb2.OPERATION_GET), timeout=30)

    assert json.loads(created.result.data)["orders"] == []
    assert json.loads(added.result.data) == 2
    assert order == again
    line = {"$value": ["Line", {"name": "teapot", "quantity": 2, "price": {"$decimal": "24.90"}}]}
    assert json.loads(order.result.data) == {
        "$value": [
            "Order",
            {"number": 1, "lines": {"$tuple": [line]}, "total": {"$decimal": "49.80"}},
        ]
    }
    assert json.loads(state.result.data) == {
        "lines": {},
        "orders": [json.loads(order.result.data)],
    }


def test_stubs_see_types_and_methods_and_list_objects(channel: grpc.Channel) -> None:
    calls = calls_pb2_grpc.CallsStub(channel)
    cluster = cluster_pb2_grpc.ClusterStub(channel)
    for number in range(5):
        calls.Call(
            calls_pb2.CallRequest(
                type="ShoppingCart",
                id=f"listed-{number}",
                operation=calls_pb2.OPERATION_GET_OR_CREATE,
            ),
            timeout=30,
        )

    description = cluster.Describe(cluster_pb2.DescribeRequest(), timeout=30)
    listed = [
        id
        for partition in range(description.partition_count)
        for id in cluster.List(
            cluster_pb2.ListRequest(partition=partition, type="ShoppingCart", prefix="listed-"),
            timeout=30,
        ).ids
    ]

    (cart,) = [found for found in description.types if found.name == "ShoppingCart"]
    assert [method.name for method in cart.methods] == ["add", "checkout", "remove", "total"]
    assert sorted(listed) == [f"listed-{number}" for number in range(5)]


def as_json(arguments: object) -> calls_pb2.Payload:
    return calls_pb2.Payload(encoding=calls_pb2.ENCODING_JSON, data=json.dumps(arguments).encode())
