"""How a path is read: encoded segments, prefixes, and what hosts do to both."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from workflow_runs.admin.access import SCOPES
from workflow_runs.admin.routes import OPERATIONS, claims, find, normalised
from workflow_runs.errors import ConfigurationError
from workflow_runs.wire import ERROR_CODES

PREFIX = "/v1/admin"


def scope(raw, *, root="", path=None, with_raw=True):
    made = {"type": "http", "path": unquote(raw) if path is None else path, "root_path": root}
    return made | ({"raw_path": raw.encode()} if with_raw else {})


def read(raw, prefix=PREFIX, **how):
    place = find(scope(raw, **how), prefix)
    return (
        None if place is None else (sorted(operation.name for operation in place.operations.values()), place.parameter)
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_found_and_declares_scope_and_codes(operation):
    path = PREFIX + operation.path.format(runId="x", workflowName="x")
    assert find(scope(path), PREFIX).operations[operation.method] is operation
    assert operation.scope in SCOPES
    assert set(operation.codes) <= set(ERROR_CODES)
    assert len(set(operation.codes)) == len(operation.codes)
    assert bool(operation.action) == (operation.method == "POST")


@pytest.mark.parametrize(
    ("segment", "id"),
    [
        ("wfrn_1", "wfrn_1"),
        ("a%20b", "a b"),
        ("conf%2Fslash", "conf/slash"),
        ("%2e%2e%2f%2e%2e", "../.."),
        ("%00", "\x00"),
        ("%ff", "\ufffd"),
        ("%F0%9F%98%80", "😀"),
        ("100%25", "100%"),
        ("%", "%"),
        ("%zz", "%zz"),
        ("runs", "runs"),
        ("+", "+"),
    ],
)
def test_a_segment_is_decoded_once_and_of_any_shape(segment, id):
    assert read(f"{PREFIX}/workflow-runs/{segment}") == (["get_workflow_run"], id)
    assert read(f"{PREFIX}/workflow-runs/{segment}/rerun") == (["rerun_workflow_run"], id)
    assert read(f"{PREFIX}/workflows/{segment}/runs") == (["trigger_workflow"], id)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/v1",
            "/v1/admin",
            "/v1/admin/",
            "/v1/admin/workflow-run",
            "/v1/admin/workflow-runs/",
            "/v1/admin/workflows/",
        ),
        *("/v1/admin/workflow-runs//rerun", "/v1/admin/workflow-runs/x/", "/v1/admin/workflow-runs/x/nope"),
        *("/v1/admin/workflow-runs/x/rerun/", "/v1/admin/workflows/x", "/v1/admin/workflows//runs"),
        *("/v1/admin/workflow-runs/a/b", "/v1/admin/workflow-runs/a/b/c", "/V1/admin/workflow-runs"),
        *(
            "/v1/admin/Workflow-runs",
            "/v1/admin%2Fworkflow-runs",
            "//v1/admin/workflow-runs",
            "/v1/admins/workflow-runs",
        ),
    ],
)
def test_an_unknown_path_is_no_place(path):
    assert read(path) is None


@pytest.mark.parametrize("prefix", ["", "/", "/a/b/", "/a/b", "/v1/admin"])
def test_the_prefix_may_be_any_path(prefix):
    prefix = normalised(prefix)
    assert read(f"{prefix}/workflow-runs/x", prefix) == (["get_workflow_run"], "x")


@pytest.mark.parametrize("prefix", ["v1", "/a//b", "/a b", "/{x}", "/%20", "/a?b", "//"])
def test_a_prefix_that_is_no_path_is_a_mistake(prefix):
    with pytest.raises(ConfigurationError):
        normalised(prefix)


def test_a_host_may_be_mounted_itself():
    assert read("/sub/v1/admin/workflow-runs/x", root="/sub") == (["get_workflow_run"], "x")


def test_a_host_may_mount_us_and_tell_by_root_path():
    assert read("/v1/admin/workflow-runs/x%2Fy", root="/v1/admin") == (["get_workflow_run"], "x/y")


def test_a_host_may_cut_the_prefix_off_and_append_a_slash():
    cut = scope("/v1/admin/workflow-runs/x%2Fy", path="/workflow-runs/x/y/")
    assert find(cut, PREFIX).parameter == "x/y"


def test_a_proxy_may_have_cut_off_what_raw_path_still_has():
    cut = scope("/proxy/v1/admin/workflow-runs/x", path="/v1/admin/workflow-runs/x")
    assert find(cut, PREFIX).parameter == "x"


@pytest.mark.parametrize(
    ("path", "name", "parameter"),
    [
        ("/v1/admin/workflows/conf/slash/runs", "trigger_workflow", "conf/slash"),
        ("/v1/admin/workflow-runs/a/b/rerun", "rerun_workflow_run", "a/b"),
        ("/v1/admin/workflow-runs", "list_workflow_runs", ""),
    ],
)
@pytest.mark.parametrize("with_raw", [True, False])
def test_a_slash_that_was_decoded_on_its_way_belongs_to_the_name(path, name, parameter, with_raw):
    assert read(path, root="/v1/admin", with_raw=with_raw) == ([name], parameter)


def test_a_query_in_the_raw_path_is_no_part_of_it():
    made = scope("/v1/admin/workflow-runs/x") | {"raw_path": b"/v1/admin/workflow-runs/x?include=stack"}
    assert find(made, PREFIX).parameter == "x"


def test_a_host_keeps_what_is_not_ours_below_the_prefix():
    assert claims(scope("/v1/admin/workflow-runs"), PREFIX)
    assert claims(scope("/v1/admin/workflows/x/y/z"), PREFIX)
    assert not claims(scope("/v1/admin/users"), PREFIX)
    assert not claims(scope("/v1/admin/workflow-runs-archive"), PREFIX)
    assert not claims(scope("/workflow-runs"), PREFIX)


def test_allow_names_what_a_path_takes():
    assert find(scope(f"{PREFIX}/workflow-runs"), PREFIX).allow == "GET, HEAD, OPTIONS"
    assert find(scope(f"{PREFIX}/workflow-runs/x/cancel"), PREFIX).allow == "OPTIONS, POST"
