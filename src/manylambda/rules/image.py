"""Rules about a container image as a whole: what Lambda takes, and what it would start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.audits import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.audits import Subject
    from manylambda.audits.images import ImageFacts

# Facts 6.2: image manifest v2 schema 2, and OCI 1.0.
_MANIFESTS: Final = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
_LAYERS: Final = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)
_RECOMPRESS: Final = (
    "write them by gzip: `skopeo copy --dest-compress-format gzip --dest-force-compress-format ...` or "
    "`docker buildx build --output type=image,compression=gzip,force-compression=true ...`"
)


def image_manifest(subject: Subject) -> Iterator[Finding]:
    """Find manifests and layers of a kind that Lambda refuses."""
    if subject.image is None:
        return
    image = subject.image.image
    if image.media_type and image.media_type not in _MANIFESTS:
        yield _manifest(
            Severity.ERROR,
            f"the manifest is of the type `{image.media_type}`: Lambda takes Docker's schema 2 and OCI 1.0",
            "write the image anew: `docker buildx build --provenance=false ...`, or `skopeo copy --format oci ...`",
        )
    if not image.is_docker_save:  # its layers get their final form when they are pushed
        odd = [layer.media_type for layer in image.layers if layer.media_type and layer.media_type not in _LAYERS]
        for media_type in sorted(set(odd)):
            number = odd.count(media_type)
            layers = "an image layer is" if number == 1 else f"{number} image layers are"
            yield _manifest(
                Severity.WARNING,
                f"{layers} of the type `{media_type}`: only those compressed by gzip are known to run on Lambda",
                _RECOMPRESS,
            )
    if image.has_attestation:
        yield _manifest(
            Severity.NOTE,
            "attestations lie beside the image: pushed with them it is an index, which Lambda refuses",
            "build with `docker buildx build --provenance=false --sbom=false ...`",
        )
    elif image.in_index:
        yield _manifest(
            Severity.NOTE,
            "the image is one of an index of platforms: a function takes the manifest of one, not the index",
            f"push it alone: `docker buildx build --platform linux/{subject.target.architecture.oci} "
            "--provenance=false ...`, or `skopeo copy` without `--all`",
        )


def image_entry_point(subject: Subject) -> Iterator[Finding]:
    """Find images that start nothing, or something other than the target's Python."""
    if subject.image is None:
        return
    yield from _interpreter(subject, subject.image)
    yield from _command(subject.image)
    if not subject.image.is_lambda_base:
        if subject.system is not None:
            judged = f"its own libraries, with glibc {subject.system.glibc}"
            hint = (
                f"that it starts handlers is not known: `manylambda trial` it, or build from `{subject.target.image}`"
            )
        else:
            judged = f"the libraries of {subject.target.runtime}, which it need not have"
            hint = f"what it lacks or has besides is not known: test it, or build from `{subject.target.image}`"
        yield _entry_point(
            Severity.NOTE,
            f"the image is not made from Lambda's for Python: its files were judged by {judged}",
            hint,
        )


def _interpreter(subject: Subject, image: ImageFacts) -> Iterator[Finding]:
    wanted = "{}.{}".format(*subject.target.python)
    if image.pythons and wanted not in image.pythons:
        yield _entry_point(
            Severity.ERROR if image.is_lambda_base else Severity.WARNING,
            f"the image has Python {' and '.join(image.pythons)}, the target is {subject.target.runtime}",
            f"build from `{subject.target.image}`, or audit for the runtime that the image is of",
        )


def _command(image: ImageFacts) -> Iterator[Finding]:
    config = image.image.config
    entry_point, command = config.entry_point, config.command
    if not entry_point:
        yield _entry_point(
            Severity.WARNING,
            f"the image has no ENTRYPOINT: `{' '.join(command)[:200]}` would be run as a program"
            if command
            else "the image has neither ENTRYPOINT nor CMD: nothing would be started",
            "set `ENTRYPOINT` as Lambda's base images do, or in the function's image configuration",
        )
    elif image.has_entry_point is False:
        yield _entry_point(
            Severity.WARNING,
            f"the program of ENTRYPOINT is not in the image: `{entry_point[0][:200]}`",
            "add it, or build from one of Lambda's base images",
        )
    elif image.runs_handlers and not command and not image.handler:
        yield _entry_point(
            Severity.WARNING,
            "the image has no CMD: no handler is named",
            'add `CMD ["app.handler"]`, or name it in the function\'s image configuration',
        )
    elif entry_point[-1].endswith("/lambda-entrypoint.sh") and len(command) > 1:
        yield _entry_point(
            Severity.WARNING,
            f"CMD has {len(command)} words, the entry point takes one: `{' '.join(command)[:200]}`",
            'write it as a list of one: `CMD ["app.handler"]`',
        )


def _manifest(severity: Severity, message: str, hint: str) -> Finding:
    return Finding(rule="image-manifest", severity=severity, message=message, hint=hint)


def _entry_point(severity: Severity, message: str, hint: str) -> Finding:
    return Finding(rule="image-entry-point", severity=severity, message=message, hint=hint)
