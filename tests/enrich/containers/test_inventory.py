"""Who owns which cgroup, on v1, v2 and hybrid hosts, with each runtime's names and state."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from huatuo.enrich.containers.inventory import Inventory
from tests.enrich.conftest import Layout

A, B, C = "a" * 64, "b" * 64, "c" * 64
POD = "1b2c3d4e-0000-4000-8000-1234567890ab"
POD_SLICE = f"kubepods-burstable-pod{POD.replace('-', '_')}.slice"
CRI_SYSTEMD = f"/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}/cri-containerd-{A}.scope"
TASKS = "run/containerd/io.containerd.runtime.v2.task"


def docker_state(name: str, image: str = "nginx:1.27") -> dict[str, object]:
    return {
        "Name": f"/{name}",
        "Config": {"Image": image, "Labels": {"com.docker.compose.service": "web", "secret": "x"}},
        "State": {"StartedAt": "2026-01-02T03:04:05.6Z", "Running": True},
    }


@pytest.mark.parametrize(
    ("path", "runtime"),
    [
        (f"/system.slice/docker-{A}.scope", "docker"),
        (f"/docker/{A}", "docker"),
        (f"/docker/{B}/docker/{A}", "docker"),
        (CRI_SYSTEMD, "containerd"),
        (f"/system.slice/containerd.service/{POD_SLICE}:cri-containerd:{A}", "containerd"),
        (f"/kubepods/burstable/pod{POD}/{A}", ""),
        (f"/kubepods/besteffort/pod{POD}/crio-{A}", "cri-o"),
        (f"/kubepods.slice/{POD_SLICE}/crio-{A}.scope", "cri-o"),
        (f"/machine.slice/libpod-{A}.scope", "podman"),
        (f"/libpod_parent/libpod-{A}", "podman"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope", "podman"),
        (f"/system.slice/nerdctl-{A}.scope", "containerd"),
        (f"/default/{A}", ""),
        (f"/custom-parent/{A}", ""),
    ],
)
def test_container_is_recognised_by_its_cgroup(layout: Layout, path: str, runtime: str) -> None:
    inode = layout.cgroup(path)
    inner = layout.cgroup(f"{path}/container/deeper")
    inventory = Inventory(layout.host)
    owner = inventory.owner(inode)
    assert (owner.kind, owner.id, owner.runtime) == ("container", A, runtime)
    assert owner.name == A[:12]
    assert owner.cgroup == path
    assert inventory.owner(inner) == owner


@pytest.mark.parametrize(
    ("path", "name", "runtime"),
    [
        ("/lxc.payload.web-1", "web-1", "lxc"),
        ("/lxc/web-1", "web-1", "lxc"),
        ("/machine.slice/systemd-nspawn@deb.service", "deb", "nspawn"),
        ("/machine.slice/machine-my\\x2dbox.scope", "my-box", "nspawn"),
    ],
)
def test_system_container_is_known_by_name(
    layout: Layout, path: str, name: str, runtime: str
) -> None:
    inner = layout.cgroup(f"{path}/system.slice/ssh.service")
    owner = Inventory(layout.host).owner(inner)
    assert (owner.kind, owner.name, owner.runtime) == ("container", name, runtime)


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/system.slice/ssh.service", "service", "ssh.service"),
        ("/system.slice/db.service/worker-1", "service", "db.service"),
        ("/init.scope", "scope", "init.scope"),
        ("/user.slice/user-1000.slice/session-3.scope", "user", "user-1000.slice"),
        ("/system.slice", "slice", "system.slice"),
        ("/batch/job-7", "cgroup", "/batch/job-7"),
        (f"/machine.slice/libpod-conmon-{A}.scope", "scope", f"libpod-conmon-{A}.scope"),
        ("/machine.slice/machine-qemu\\x2d1.scope", "scope", "machine-qemu\\x2d1.scope"),
        ("/lxc.monitor.web-1", "cgroup", "/lxc.monitor.web-1"),
        (f"/system.slice/{'a' * 40}", "cgroup", f"/system.slice/{'a' * 40}"),
    ],
)
def test_what_is_no_container(layout: Layout, path: str, kind: str, name: str) -> None:
    owner = Inventory(layout.host).owner(layout.cgroup(path))
    assert (owner.kind, owner.name) == (kind, name)


def test_root_unknown_and_zero(layout: Layout) -> None:
    inventory = Inventory(layout.host)
    root = inventory.owner(layout.mount().stat().st_ino)
    assert (root.name, root.kind) == ("/", "host")
    missing = inventory.owner(12345678901)
    assert (missing.name, missing.kind) == ("cgroup:12345678901", "cgroup")
    assert inventory.owner(0).name == "other"


def test_docker_metadata(layout: Layout) -> None:
    layout.file(f"var/lib/docker/containers/{A}/config.v2.json", docker_state("web"))
    owner = Inventory(layout.host).owner(layout.cgroup(f"/docker/{A}"))
    assert (owner.name, owner.image, owner.runtime) == ("web", "nginx:1.27", "docker")
    assert owner.started == "2026-01-02T03:04:05.6Z"
    assert owner.labels == {"com.docker.compose.service": "web"}


def test_docker_with_another_data_root(layout: Layout) -> None:
    layout.file("etc/docker/daemon.json", {"data-root": "/data/docker"})
    layout.file(f"data/docker/containers/{A}/config.v2.json", docker_state("moved"))
    assert Inventory(layout.host).owner(layout.cgroup(f"/docker/{A}")).name == "moved"


def test_cri_metadata(layout: Layout) -> None:
    kubernetes = {
        "io.kubernetes.cri.sandbox-name": "shop-7d9f",
        "io.kubernetes.cri.sandbox-namespace": "prod",
    }
    layout.file(
        f"{TASKS}/k8s.io/{A}/config.json",
        {
            "annotations": kubernetes
            | {
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.container-name": "app",
                "io.kubernetes.cri.image-name": "registry/app:3",
            },
            "linux": {"cgroupsPath": f"{POD_SLICE}:cri-containerd:{A}"},
        },
    )
    layout.file(
        f"{TASKS}/k8s.io/{B}/config.json",
        {"annotations": kubernetes | {"io.kubernetes.cri.container-type": "sandbox"}},
    )
    inventory = Inventory(layout.host)
    app = inventory.owner(layout.cgroup(CRI_SYSTEMD))
    assert (app.name, app.pod, app.namespace) == ("app", "shop-7d9f", "prod")
    assert (app.image, app.runtime) == ("registry/app:3", "containerd")
    pause = inventory.owner(layout.cgroup(CRI_SYSTEMD.replace(A, B)))
    assert (pause.name, pause.pod) == ("pause", "shop-7d9f")


def test_podman_metadata(layout: Layout) -> None:
    stored = {
        "id": A,
        "names": ["db"],
        "metadata": '{"image-name": "docker.io/library/postgres:17", "name": "db"}',
        "created": "2026-01-02T03:04:05Z",
    }
    layout.file("var/lib/containers/storage/overlay-containers/containers.json", [stored])
    owner = Inventory(layout.host).owner(layout.cgroup(f"/libpod_parent/libpod-{A}/container"))
    assert (owner.name, owner.image) == ("db", "docker.io/library/postgres:17")
    assert (owner.runtime, owner.started) == ("podman", "2026-01-02T03:04:05Z")


def test_rootless_podman_metadata(layout: Layout) -> None:
    layout.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
    storage = "home/ann/.local/share/containers/storage/overlay-containers"
    layout.file(f"{storage}/containers.json", [{"id": A, "names": ["toolbox"]}])
    path = f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope"
    assert Inventory(layout.host).owner(layout.cgroup(path)).name == "toolbox"


def test_crio_metadata(layout: Layout) -> None:
    storage = "var/lib/containers/storage/overlay-containers"
    layout.file(f"{storage}/containers.json", [{"id": A, "names": ["k8s_app_shop_prod_0"]}])
    annotations = {
        "io.kubernetes.container.name": "app",
        "io.kubernetes.pod.name": "shop",
        "io.kubernetes.pod.namespace": "prod",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.ImageName": "quay.io/app:1",
    }
    layout.file(f"{storage}/{A}/userdata/config.json", {"annotations": annotations})
    owner = Inventory(layout.host).owner(layout.cgroup(f"/kubepods/pod{POD}/crio-{A}"))
    assert (owner.name, owner.pod, owner.namespace) == ("app", "shop", "prod")
    assert (owner.image, owner.runtime) == ("quay.io/app:1", "cri-o")


def test_ctr_container_has_any_name(layout: Layout) -> None:
    layout.file(
        f"{TASKS}/default/batch-9/config.json", {"linux": {"cgroupsPath": "/default/batch-9"}}
    )
    owner = Inventory(layout.host).owner(layout.cgroup("/default/batch-9/sub"))
    assert (owner.name, owner.kind, owner.runtime) == ("batch-9", "container", "containerd")


def test_runc_container_at_any_path_even_another_for_blkio(layout: Layout) -> None:
    mounted = "/" + str(layout.mount().relative_to(layout.host.root))
    block = "/elsewhere/job" if layout.version != "v2" else "/some/where/job"
    paths = {
        "memory": f"{mounted}/some/where/job",
        "blkio": f"/sys/fs/cgroup/blkio{block}",
        "": f"{mounted}/some/where/job",
    }
    if layout.version == "v2":
        paths = {"": paths[""]}
    layout.file(
        "run/runc/job/state.json", {"cgroup_paths": paths, "created": "2026-01-02T03:04:05Z"}
    )
    inventory = Inventory(layout.host)
    owner = inventory.owner(layout.cgroup("/some/where/job", "memory"))
    assert (owner.name, owner.kind, owner.runtime) == ("job", "container", "runc")
    assert owner.started == "2026-01-02T03:04:05Z"
    assert inventory.owner_of_blkcg(layout.cgroup(block, "blkio")) == owner


def test_crun_container(layout: Layout) -> None:
    layout.file(
        "run/crun/job/status", {"cgroup-path": "/job-cg", "created": "2026-01-02T03:04:05Z"}
    )
    owner = Inventory(layout.host).owner(layout.cgroup("/job-cg"))
    assert (owner.name, owner.runtime) == ("job", "crun")


def test_state_that_comes_after_the_cgroup(layout: Layout) -> None:
    inode, full = layout.cgroup("/default/late"), layout.cgroup(f"/docker/{A}")
    inventory = Inventory(layout.host)
    assert inventory.owner(inode).kind == "cgroup"
    assert inventory.owner(full).name == A[:12]
    layout.file(f"{TASKS}/default/late/config.json", {"linux": {"cgroupsPath": "/default/late"}})
    layout.file(f"var/lib/docker/containers/{A}/config.v2.json", docker_state("web"))
    layout.host.pass_seconds(0.2)
    inventory.refresh()
    assert inventory.owner(inode).kind == "container"
    assert inventory.owner(full).name == "web"


def test_state_that_goes_before_the_cgroup(layout: Layout) -> None:
    layout.file(f"{TASKS}/default/job/config.json", {"linux": {"cgroupsPath": "/default/job"}})
    inode = layout.cgroup("/default/job")
    inventory = Inventory(layout.host)
    inventory.refresh()
    (layout.host.root / f"{TASKS}/default/job/config.json").unlink()
    inventory.refresh()
    layout.remove("/default/job")
    inventory.refresh()
    owner = inventory.owner(inode)
    assert (owner.name, owner.kind) == ("job", "container")
    assert owner.gone


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"Config": 7}', '{"Name": null}', "\0\0"])
def test_garbage_state_is_no_state(layout: Layout, garbage: str) -> None:
    layout.file(f"var/lib/docker/containers/{A}/config.v2.json", garbage)
    layout.file("var/lib/containers/storage/overlay-containers/containers.json", garbage)
    layout.file("run/runc/job/state.json", garbage)
    layout.file("run/crun/job/status", garbage)
    layout.file(f"{TASKS}/default/job/config.json", garbage)
    owner = Inventory(layout.host).owner(layout.cgroup(f"/docker/{A}"))
    assert owner.name == A[:12]


def test_container_is_known_for_ten_minutes_after_its_end(layout: Layout) -> None:
    layout.file(f"var/lib/docker/containers/{A}/config.v2.json", docker_state("web"))
    inode = layout.cgroup(f"/docker/{A}")
    inventory = Inventory(layout.host)
    inventory.refresh()
    layout.remove(f"/docker/{A}")
    (layout.host.root / f"var/lib/docker/containers/{A}/config.v2.json").unlink()
    inventory.refresh()
    owner = inventory.owner(inode)
    assert (owner.name, owner.gone) == ("web", "2023-11-14T22:13:20.000000000Z")
    assert owner in inventory.containers()
    layout.host.pass_seconds(599)
    inventory.refresh()
    assert inventory.owner(inode).name == "web"
    layout.host.pass_seconds(2)
    inventory.refresh()
    assert inventory.owner(inode).name == f"cgroup:{inode}"
    assert inventory.has_forgotten(inode)
    assert "web" not in [container.name for container in inventory.containers()]


def test_inner_cgroup_that_goes_does_not_end_the_container(layout: Layout) -> None:
    layout.cgroup(f"/docker/{A}")
    inner = layout.cgroup(f"/docker/{A}/inner")
    inventory = Inventory(layout.host)
    inventory.refresh()
    layout.remove(f"/docker/{A}/inner")
    inventory.refresh()
    assert inventory.owner(inner).id == A
    assert not inventory.owner(inner).gone


def test_reused_id_belongs_to_the_new_cgroup(layout: Layout) -> None:
    """A rename keeps the inode, as an id that is used again would."""
    inode = layout.cgroup(f"/docker/{A}")
    inventory = Inventory(layout.host)
    assert inventory.owner(inode).id == A
    (layout.mount() / "docker" / A).rename(layout.mount() / "docker" / B)
    inventory.refresh()
    assert inventory.owner(inode).id == B
    gone = [container for container in inventory.containers() if container.gone]
    assert [container.id for container in gone] == [A]


def test_id_that_comes_back_at_the_same_path_is_a_new_owner(layout: Layout) -> None:
    inode = layout.cgroup("/batch")
    inventory = Inventory(layout.host)
    inventory.refresh()
    (layout.mount() / "batch").rename(layout.host.root / "away")
    inventory.refresh()
    assert inventory.owner(inode).gone
    (layout.host.root / "away").rename(layout.mount() / "batch")
    inventory.refresh()
    assert not inventory.owner(inode).gone
    layout.host.pass_seconds(700)
    inventory.refresh()
    assert inventory.owner(inode).name == "/batch"


def test_new_container_is_found_when_it_is_asked_for(layout: Layout) -> None:
    inventory = Inventory(layout.host)
    inventory.refresh()
    assert inventory.owner(layout.cgroup(f"/docker/{A}")).id == A


def test_id_that_was_not_found_is_not_searched_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = []
    inventory = Inventory(layout.host)
    scan = inventory._scan
    monkeypatch.setattr(inventory, "_scan", lambda side: (scans.append(side), scan(side)))
    for _ in range(5):
        inventory.owner(999_999_999_999)
        layout.host.pass_seconds(1)
    assert len(scans) == 1


def test_blkcg_ids_are_of_their_own_hierarchy(make_layout: Callable[[str], Layout]) -> None:
    layout = make_layout("v1")
    layout.cgroup(f"/docker/{A}")
    layout.cgroup("/system.slice/ssh.service")
    block = layout.mount("blkio")
    inventory = Inventory(layout.host)
    found = inventory.owner_of_blkcg((block / "docker" / A).stat().st_ino)
    assert found.id == A
    ssh = inventory.owner_of_blkcg((block / "system.slice/ssh.service").stat().st_ino)
    assert ssh.name == "ssh.service"
    assert inventory.owner_of_blkcg(block.stat().st_ino).kind == "host"
    only_there = layout.cgroup(f"/docker/{B}", "blkio")
    assert inventory.owner_of_blkcg(only_there).id == B


def test_one_cgroup_per_owner_and_none_inside_another(layout: Layout) -> None:
    for path in (
        f"/docker/{A}/docker/{B}",
        f"/docker/{A}/init",
        f"/libpod_parent/libpod-{C}/container",
        "/libpod_parent/conmon",
        "/system.slice/ssh.service",
        "/system.slice/db.service/worker",
        f"/system.slice/containerd.service/x.slice:cri-containerd:{'d' * 64}",
        "/system.slice/containerd.service/self",
        "/user.slice/user-1000.slice/session-1.scope",
        f"/user.slice/user-1001.slice/user@1001.service/libpod-{'e' * 64}.scope",
        "/user.slice/user-1001.slice/session-2.scope",
        "/batch/job-1",
    ):
        layout.cgroup(path)
    inventory = Inventory(layout.host)
    inventory.refresh()
    found = inventory.cgroups()
    assert sorted(cgroup.path for cgroup in found) == sorted(
        [
            f"/docker/{A}",
            f"/libpod_parent/libpod-{C}",
            "/libpod_parent/conmon",
            "/system.slice/ssh.service",
            "/system.slice/db.service",
            f"/system.slice/containerd.service/x.slice:cri-containerd:{'d' * 64}",
            "/system.slice/containerd.service/self",
            "/user.slice/user-1000.slice",
            f"/user.slice/user-1001.slice/user@1001.service/libpod-{'e' * 64}.scope",
            "/user.slice/user-1001.slice/session-2.scope",
            "/batch/job-1",
        ]
    )
    for cgroup in found:
        assert not any(other.path.startswith(f"{cgroup.path}/") for other in found)
        assert inventory.owner(cgroup.id).kind != "slice"


def test_containers_come_first_and_each_once(layout: Layout) -> None:
    layout.cgroup(f"/docker/{A}/inner")
    layout.cgroup("/system.slice/ssh.service")
    inventory = Inventory(layout.host)
    inventory.refresh()
    kinds = [container.kind for container in inventory.containers()]
    assert kinds == ["container", "cgroup", "service"] or kinds[0] == "container"
    assert kinds.count("container") == 1


def test_netns_of_one_container(layout: Layout) -> None:
    layout.cgroup(f"/docker/{A}")
    layout.cgroup(f"/docker/{B}")
    layout.process(100, f"/docker/{A}", 4026532100)
    layout.process(101, f"/docker/{A}", 4026532100)
    layout.process(102, f"/docker/{B}", 4026531840)
    inventory = Inventory(layout.host)
    inventory.refresh()
    owner = inventory.owner_of_netns(4026532100)
    assert owner is not None
    assert owner.id == A
    assert inventory.owner_of_netns(4026531840) is None
    assert inventory.owner_of_netns(4026539999) is None
    assert inventory.process_in_netns(4026532100) in (100, 101)
    assert inventory.is_host_netns(4026531840)


def test_netns_shared_by_strangers_has_no_owner(layout: Layout) -> None:
    for pid, container in ((100, A), (101, B)):
        layout.cgroup(f"/docker/{container}")
        layout.process(pid, f"/docker/{container}", 4026532100)
    inventory = Inventory(layout.host)
    inventory.refresh()
    assert inventory.owner_of_netns(4026532100) is None


def test_netns_of_a_pod(layout: Layout) -> None:
    for pid, container, name in ((100, A, "app"), (101, B, "")):
        annotations = {
            "io.kubernetes.cri.sandbox-name": "shop",
            "io.kubernetes.cri.sandbox-namespace": "prod",
            "io.kubernetes.cri.container-name": name,
            "io.kubernetes.cri.container-type": "container" if name else "sandbox",
        }
        layout.file(f"{TASKS}/k8s.io/{container}/config.json", {"annotations": annotations})
        path = f"/kubepods/pod{POD}/{container}"
        layout.cgroup(path)
        layout.process(pid, path, 4026532100)
    inventory = Inventory(layout.host)
    inventory.refresh()
    owner = inventory.owner_of_netns(4026532100)
    assert owner is not None
    assert (owner.name, owner.pod) == ("app", "shop")


def test_netns_number_used_again(layout: Layout) -> None:
    for container in (A, B):
        layout.cgroup(f"/docker/{container}")
    layout.process(100, f"/docker/{A}", 4026532100)
    inventory = Inventory(layout.host)
    inventory.refresh()
    first = inventory.owner_of_netns(4026532100)
    assert first is not None
    layout.process(100, f"/docker/{B}", 4026532100)
    layout.host.pass_seconds(5)
    inventory.refresh()
    second = inventory.owner_of_netns(4026532100)
    assert second is not None
    assert (first.id, second.id) == (A, B)


def test_netns_of_a_dead_container_still_names_it(layout: Layout) -> None:
    layout.cgroup(f"/docker/{A}")
    layout.process(100, f"/docker/{A}", 4026532100)
    inventory = Inventory(layout.host)
    inventory.refresh()
    assert inventory.owner_of_netns(4026532100) is not None
    layout.process(100, "/init.scope", 4026531840)
    layout.remove(f"/docker/{A}")
    inventory.refresh()
    owner = inventory.owner_of_netns(4026532100)
    assert owner is not None
    assert owner.id == A


def test_host_without_cgroups(make_layout: Callable[[str], Layout]) -> None:
    layout = make_layout("v2")
    layout.file("proc/self/mountinfo", "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    inventory = Inventory(layout.host)
    inventory.refresh()
    assert inventory.owner(77).name == "cgroup:77"
    assert inventory.containers() == []
    assert inventory.cgroups() == []
