from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from harness.loop import on_loop

from perdure.cli.servers import node_command, node_of
from perdure.config import load_config
from perdure.errors import ConfigError
from perdure.service_settings import ServiceSettings, setting_words
from perdure_node.__main__ import services_of_words
from perdure_node.embedded import open_embedded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "perdure.toml"


WHOLE = """
[services.payment_service]
url = "https://payments.example/v1/"
timeout = 10
attempts = 3
backoff_min = 0.25
backoff_max = 2
concurrency = 7

[services."mail.out"]
timeout = 0.5
"""

PARSED = {
    "payment_service": ServiceSettings("https://payments.example/v1", 10.0, 3, 0.25, 2.0, 7),
    "mail.out": ServiceSettings(timeout_s=0.5),
}


def test_services_are_described_in_the_file(file: Path) -> None:
    file.write_text(WHOLE)

    assert load_config(file, {}, {}).services == PARSED


def test_what_a_node_is_told_on_its_command_line_is_what_was_in_the_file(file: Path) -> None:
    file.write_text(WHOLE)

    assert services_of_words(setting_words(load_config(file, {}, {}).services)) == PARSED


def test_the_environment_wins_over_the_file(file: Path) -> None:
    file.write_text(WHOLE)
    environment = {
        "PERDURE_SERVICES_PAYMENT_SERVICE_URL": "http://127.0.0.1:8000",
        "PERDURE_SERVICES_OTHER_BACKOFF_MIN": "1.5",
        "PERDURE_SERVICES_SERVICE_HOST": "set by somebody else for something else",
        "PERDURE_SERVICES_URL": "of no service",
    }

    services = load_config(file, environment, {}).services

    assert services["payment_service"].url == "http://127.0.0.1:8000"
    assert services["payment_service"].attempts == 3
    assert services["other"] == ServiceSettings(backoff_min_s=1.5)
    assert set(services) == {"payment_service", "mail.out", "other"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("services = 3\n", r"services is a table of tables: \[services.NAME\]"),
        ("[services]\nx = 3\n", r"services.x is a table: \[services.x\]"),
        ("[services.x]\nurll = 'http://h'\n", "x.urll is no setting: did you mean 'url'"),
        ("[services.x]\nurl = 'ftp://h'\n", "a URL such as https://.*, not 'ftp://h'"),
        ("[services.x]\nurl = 'http://'\n", "a URL such as"),
        ("[services.x]\nurl = 'http://h?q=1'\n", r"without \? and #"),
        ("[services.x]\nurl = 'http://h/a b'\n", "a URL such as"),
        ("[services.x]\nurl = 'http://h:99999'\n", "no URL"),
        ("[services.x]\nurl = 7\n", "a URL such as .* not 7"),
        ("[services.x]\ntimeout = 0\n", "x.timeout: a number over 0, 86400 at most, not 0"),
        ("[services.x]\ntimeout = inf\n", "a number over 0, .* not inf"),
        ("[services.x]\ntimeout = nan\n", "a number over 0, .* not nan"),
        ("[services.x]\ntimeout = 'soon'\n", "a number over 0, .* not 'soon'"),
        ("[services.x]\nattempts = 1.5\n", "a whole number over 0, .* not 1.5"),
        ("[services.x]\nattempts = true\n", "a whole number over 0, .* not True"),
        ("[services.x]\nbackoff_min = 9\n", "backoff_min, 9 s, is longer than backoff_max, 5 s"),
        ("[services.'x y']\nattempts = 1\n", "the name of a service"),
    ],
)
def test_a_mistake_is_named(file: Path, text: str, problem: str) -> None:
    file.write_text(text)

    with pytest.raises(ConfigError, match=problem):
        load_config(file, {}, {})


def test_a_secret_in_a_url_is_refused_and_not_shown(file: Path) -> None:
    file.write_text("[services.x]\nurl = 'https://user:s3cret@h'\n")

    with pytest.raises(ConfigError, match="user or a password") as caught:
        load_config(file, {}, {})

    assert "s3cret" not in str(caught.value)


def test_a_node_of_a_described_cluster_is_told_how_services_are_called(file: Path) -> None:
    file.write_text(
        'app = "shop.py"\ndata = "data"\n[cluster]\nid = "shop"\nrouters = ["127.0.0.1:7400"]\n'
        f'[cluster.nodes]\nn1 = "127.0.0.1:7401"\n{WHOLE}'
    )
    node = node_of(load_config(file, {}, {}), "n1", None, init=True)

    command = node_command(node)

    words = [after for word, after in pairwise(command) if word == "--service"]
    assert "payment_service.url=https://payments.example/v1" in words
    assert services_of_words(words) == PARSED


@on_loop
async def test_a_program_without_a_cluster_reads_the_file_of_its_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(WHOLE)
    monkeypatch.chdir(file.parent)

    embedded = await open_embedded(file.parent / "data")
    try:
        assert embedded.node.settings.services == PARSED
    finally:
        await embedded.close()


@on_loop
async def test_the_limits_that_are_set_count_without_a_cluster_too(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[limits]\nactivations_max = 7\nmailbox_calls_max = 8\n")
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("PERDURE_LIMITS_MAILBOX_CALLS_MAX", "9")

    embedded = await open_embedded(file.parent / "data")
    try:
        limits = embedded.node.settings.limits
        assert (limits.activations_max, limits.mailbox_calls_max) == (7, 9)
    finally:
        await embedded.close()


@on_loop
async def test_a_limit_that_is_not_there_is_refused_without_a_cluster_too(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[limits]\nactivation_max = 7\n")
    monkeypatch.chdir(file.parent)

    with pytest.raises(ConfigError, match=r"no limit 'activation_max'.*activations_max"):
        await open_embedded(file.parent / "data")
