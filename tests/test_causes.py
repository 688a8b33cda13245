"""What error texts mean: each cause by texts that were really seen, and what is no cause."""

# ruff: noqa: E501, ISC004, RUF001 - the texts are as they were seen
from __future__ import annotations

import base64
import json
import re
import time
import tracemalloc
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import pytest

from manylambda import causes
from manylambda.causes import find
from manylambda.rules import ALL, pages
from manylambda.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.causes import Cause, Diagnosis

DATA = json.loads(files("manylambda").joinpath("data", "causes.json").read_text(encoding="utf-8"))

# Texts as they were seen (in the reports that `source` names, or printed by the program itself), the cause, and what of
# the cure must be there with the values of this text: a command, or a part of what is said.
SAMPLES: Final[list[tuple[str, str, str]]] = [
    # Loading
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'handler': libc.musl-x86_64.so.1: cannot open shared "
        "object file: No such file or directory",
        "musl-linked",
        "manylambda build -t TARGET",
    ),
    (
        "Unable to import module 'lambda_function': /opt/python/lib/python3.9/site-packages/cryptography/hazmat/bindings/"
        "_rust.abi3.so: cannot open shared object file: No such file or directory",
        "wrong-machine",
        "Install `cryptography` and all else for the function's architecture",
    ),
    (
        "ImportError: /var/task/x/_y.cpython-313-x86_64-linux-gnu.so: cannot open shared object file: No such file or directory",
        "wrong-machine",
        "manylambda build -t python3.13-x86_64",
    ),
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'github_pull_source': libpython2.7.so.1.0: cannot open "
        "shared object file: No such file or directory",
        "libpython-missing",
        "manylambda build -t TARGET",
    ),
    (
        "Unable to import module 'app': libGL.so.1: cannot open shared object file: No such file or directory",
        "library-missing",
        "choose a build of the distribution without one",
    ),
    (
        "Unable to import module 'ueba': libpq.so.5: cannot open shared object file: No such file or directory",
        "library-missing",
        "`psycopg2-binary`",
    ),
    (
        "/var/task/bootstrap: error while loading shared libraries: libxyz.so.7: cannot open shared object file: No such file or directory",
        "library-missing",
        "into the folder `lib/` of the package",
    ),
    ("ImportError: no pq wrapper available.", "psycopg-no-wrapper", "Require `psycopg[binary]`"),
    (
        "- couldn't import psycopg 'python' implementation: libpq library not found",
        "psycopg-no-wrapper",
        "manylambda build -t TARGET",
    ),
    ("Cannot import shared library for PyGreSQL,", "pygresql-libpq", "psycopg[binary]"),
    (
        "/lib64/libc.so.6: version `GLIBC_2.28' not found (required by /var/task/pyarrow/libarrow.so.2000)",
        "glibc-too-new",
        "manylambda build -t python3.12-ARCHITECTURE",
    ),
    (
        "/lib64/libm.so.6: version `GLIBC_2.38' not found (required by /var/task/x.cpython-312-aarch64-linux-gnu.so)",
        "glibc-too-new",
        "No runtime has glibc 2.38 yet",
    ),
    (
        "/lib64/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /var/task/cv2/cv2.abi3.so)",
        "symbol-version-missing",
        "Choose a release of `opencv-python`",
    ),
    (
        "/lib64/libcrypto.so.1.1: version `OPENSSL_1_1_1' not found (required by /var/task/_ssl_x.so)",
        "symbol-version-missing",
        "It was built for another OpenSSL",
    ),
    (
        "/usr/lib64/libssl.so.1.1: version `OPENSSL_1.1.1' not found (required by bin/tool)",
        "symbol-version-missing",
        "It was built for another OpenSSL",
    ),
    (
        "ImportError: /var/task/cffi.libs/libffi.so.6: wrong ELF class: ELFCLASS32",
        "elf-class",
        "manylambda build -t TARGET",
    ),
    (
        "Runtime.ImportModuleError: Unable to import module 'xxxxxxxxx': /var/task/_portforward.abi3.so: invalid ELF header",
        "foreign-binary",
        "manylambda build -t TARGET",
    ),
    ("ImportError: wrong ELF class: ELFCLASS32", "elf-class-unnamed", "manylambda build -t TARGET"),
    ("invalid ELF header", "foreign-binary-unnamed", "manylambda audit PACKAGE -t TARGET"),
    ("OSError: /var/task/plugin: invalid ELF header", "foreign-binary", "manylambda build -t TARGET"),
    ("ImportError: /var/task/native.abi3.so: file too short", "file-damaged", "manylambda audit PACKAGE -t TARGET"),
    ("ImportError: /var/task/native.abi3.so: cannot read file data", "file-damaged", "manylambda build -t TARGET"),
    (
        "Runtime.ImportModuleError: Unable to import module 'src.aws_lambda.handlers': /tmp/sls-py-req/PIL/_imaging."
        "cpython-37m-x86_64-linux-gnu.so: ELF load command address/offset not properly aligned",
        "elf-misaligned",
        "`strip: false`",
    ),
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'main': libpq-3d107b13.so.5.11: ELF load command "
        "address/offset not properly aligned",
        "elf-misaligned",
        "manylambda build -t TARGET",
    ),
    (
        "ImportError: /var/task/numpy/random/_bit_generator.cpython-310-x86_64-linux-gnu.so: failed to map segment from shared object",
        "segment-not-mapped",
        "--memory-size 1024",
    ),
    (
        "ImportError: /var/task/sklearn/__check_build/../../scikit_learn.libs/libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block",
        "static-tls",
        "LD_PRELOAD=/var/task/sklearn/__check_build/../../scikit_learn.libs/libgomp-d22c30c5.so.1.0.0}'",
    ),
    (
        "ImportError: /var/task/_x.abi3.so: cannot enable executable stack as shared object requires: Permission denied",
        "executable-stack",
        "-Wl,-z,noexecstack",
    ),
    (
        '"errorMessage": "RequestId: a8dc26d0-bdac-4f4d-9a92-ff108abb9eb2 Error: fork/exec /lambda-entrypoint.sh: exec format error",',
        "exec-format-image",
        "docker buildx build --platform linux/ARCHITECTURE --provenance=false",
    ),
    (
        "IMAGE Launch error: fork/exec /lambda-entrypoint.sh: exec format error Entrypoint: [/lambda-entrypoint.sh] Cmd: [src/index.handler] WorkingDir: [/var/task]",
        "exec-format-image",
        "aws lambda update-function-code",
    ),
    ("standard_init_linux.go:228: exec user process caused: exec format error", "exec-format-image", "docker buildx"),
    (
        "RequestId: a160dc83-9aa0-4d31-93e0-62c4b77c3d79 Error: fork/exec /opt/extensions/apm-lambda-extension: exec format error",
        "exec-format-extension",
        "LambdaInsightsExtension-Arm64",
    ),
    (
        "EXTENSION\tName: cloudwatch_lambda_agent\tState: LaunchError\tEvents: []\tError Type: UnknownError",
        "exec-format-extension",
        "--layers",
    ),
    ("OSError: [Errno 8] Exec format error: '/opt/bin/ffmpeg'", "exec-format", "manylambda audit PACKAGE -t TARGET"),
    (
        "ImportError: /var/task/ujson.so: undefined symbol: PyUnicode_GetSize",
        "symbol-undefined",
        "manylambda build -t TARGET",
    ),
    (
        "ImportError: /var/task/torch/lib/libtorch_python.so: undefined symbol: iJIT_NotifyEvent",
        "symbol-undefined-library",
        "manylambda audit PACKAGE -t TARGET",
    ),
    (
        "ImportError: /var/task/x.abi3.so: cannot make segment writable for relocation: Permission denied",
        "text-relocations",
        "`-fPIC`",
    ),
    (
        "[ERROR] Runtime.MarshalError: Unable to marshal response: Object of type coroutine is not JSON serializable",
        "handler-async",
        "asyncio.run",
    ),
    ("/var/task/x.so: CPU ISA level is lower than required", "isa-level", "x86-64-v2"),
    (
        "RequestId: 1 Error: Runtime exited with error: signal: illegal instruction (core dumped)",
        "illegal-instruction",
        "wheel from the index",
    ),
    ("dynamic module does not define module export function (PyInit_multiarray)", "pyinit-missing", "manylambda build"),
    (
        "ImportError: Python version mismatch: module was compiled for Python 3.8, but the interpreter version is incompatible: 3.9.16 (main, Dec 24 2022)",
        "python-version-mismatch",
        "manylambda build -t TARGET",
    ),
    (
        "RequestId: 89894b68 Error: Runtime exited with error: signal: segmentation fault (core dumped) Runtime.ExitError",
        "segmentation-fault",
        "manylambda audit PACKAGE -t TARGET",
    ),
    # numpy and others of its kind
    (
        "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject",
        "numpy-abi",
        "manylambda lock -t TARGET --upgrade",
    ),
    ("A module that was compiled using NumPy 1.x cannot be run in", "numpy-abi", "Resolve them together"),
    (
        "RuntimeError: module compiled against API version 0x10 but this version of numpy is 0xf",
        "numpy-abi",
        "together",
    ),
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'pydantic_core._pydantic_core'",
        "extension-missing",
        "Install `pydantic-core` for the function's runtime and architecture",
    ),
    (
        "ImportError: cannot import name '_speedups' from 'markupsafe' (/var/task/markupsafe/__init__.py)",
        "extension-missing",
        "Install `markupsafe`",
    ),
    (
        "ImportError: cannot import name 'ArgsKwargs' from 'pydantic_core._pydantic_core' (unknown location)",
        "extension-missing",
        "Install `pydantic-core`",
    ),
    (
        "cannot import name 'x509' from 'cryptography.hazmat.bindings._rust' (unknown location)",
        "extension-missing",
        "Install `cryptography`",
    ),
    ("ModuleNotFoundError: No module named '_cffi_backend'", "extension-missing", "Install `cffi`"),
    (
        "ImportError: cannot import name '_imaging' from 'PIL' (/var/task/PIL/__init__.py)",
        "extension-missing",
        "`pillow`",
    ),
    ("ModuleNotFoundError: No module named 'lxml.etree'", "extension-missing", "Install `lxml`"),
    ("ImportError: cannot import name 'etree' from 'lxml' (/var/task/lxml/__init__.py)", "extension-missing", "`lxml`"),
    (
        "ImportError: cannot import name 'cygrpc' from 'grpc._cython' (/var/task/grpc/_cython/__init__.py)",
        "extension-missing",
        "Install `grpcio`",
    ),
    (
        "\"Unable to import module 'lambda_function': No module named 'psycopg2._psycopg'\"",
        "extension-missing",
        "Install `psycopg2-binary`",
    ),
    ("ImportError: No module named psycopg2._psycopg", "extension-missing", "Install `psycopg2-binary`"),
    ("ModuleNotFoundError: No module named 'orjson.orjson'", "extension-missing", "Install `orjson`"),
    (
        "OSError: Cannot load native module 'Crypto.Cipher._raw_ecb': Not found '_raw_ecb.cpython-311-x86_64-linux-gnu.so', Not found '_raw_ecb.abi3.so'",
        "native-module-not-found",
        "manylambda build -t TARGET",
    ),
    (
        "Unable to import module 'app': Error importing numpy: you should not try to import numpy from",
        "numpy-import",
        "manylambda audit PACKAGE -t TARGET",
    ),
    ("ImportError: numpy.core.multiarray failed to import", "numpy-import", "manylambda build -t TARGET"),
    (
        "ImportError: Unable to import required dependency numpy. Please see the traceback for details.",
        "numpy-import",
        "manylambda build -t TARGET",
    ),
    (
        "SystemError: The installed pydantic-core version (2.20.1) is incompatible with the current pydantic version, which requires 2.18.2.",
        "pydantic-core-version",
        "Resolve them together",
    ),
    (
        "Exception: Version mismatch: this is the 'cffi' package version 2.1.1, located in '/var/task/cffi/api.py'.  When we import the top-level '_cffi_backend' extension module, we get version 2.0.0, located in '/opt/python/_cffi_backend.so'.",
        "cffi-version",
        "manylambda build",
    ),
    # Modules that are not there
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'app'",
        "handler-module-missing",
        "manylambda audit PACKAGE -t TARGET --handler app.FUNCTION",
    ),
    (
        "Unable to import module 'src/handlers/app': No module named 'src'",
        "handler-module-missing",
        "--handler MODULE.FUNCTION",
    ),
    (
        "Unable to import module 'app.main': No module named 'app.models'",
        "own-module-missing",
        "manylambda build -t TARGET -v",
    ),
    (
        "[ERROR] Runtime.HandlerNotFound: Handler 'lambda_handler' missing on module 'app'",
        "handler-not-found",
        "aws lambda update-function-configuration --function-name FUNCTION --handler app.FUNCTION",
    ),
    (
        "[ERROR] Runtime.MalformedHandlerName: Bad handler 'app': not enough values to unpack (expected 2, got 1)",
        "handler-malformed",
        "--handler app.lambda_handler",
    ),
    (
        "ModuleNotFoundError: No module named 'distutils'",
        "stdlib-removed",
        "manylambda build -t python3.11-ARCHITECTURE",
    ),
    ("ModuleNotFoundError: No module named 'distutils'", "stdlib-removed", "Add `setuptools`"),
    ("ModuleNotFoundError: No module named 'imp'", "stdlib-removed", "Use `importlib`"),
    ("Unable to import module 'app': No module named 'cgi'", "stdlib-removed", "Add `legacy-cgi`"),
    ("ModuleNotFoundError: No module named 'tomllib'", "stdlib-too-new", "manylambda build -t python3.11-ARCHITECTURE"),
    ("ModuleNotFoundError: No module named '_sqlite3'", "stdlib-extension-missing", "manylambda targets"),
    ("ModuleNotFoundError: No module named '_tkinter'", "stdlib-extension-missing", "leave them out"),
    ("ModuleNotFoundError: No module named '_uuid'", "stdlib-extension-missing", "PYTHONHOME"),
    ("ModuleNotFoundError: No module named 'pkg_resources'", "pkg-resources-missing", "`setuptools<81`"),
    ("Unable to import module 'lambda_function': No module named 'requests'", "module-missing", "(`requests`)"),
    ("ModuleNotFoundError: No module named 'cv2'", "module-missing", "(`opencv-python`)"),
    ("ModuleNotFoundError: No module named 'google.cloud.storage'", "module-missing", "(`google-cloud-storage`)"),
    ("ModuleNotFoundError: No module named 'importlib_metadata'", "module-missing", "(`importlib-metadata`)"),
    (
        "importlib.metadata.PackageNotFoundError: No package metadata was found for jsonschema",
        "metadata-missing",
        "Keep the `dist-info` folders",
    ),
    ("importlib.metadata.PackageNotFoundError: jsonschema", "metadata-missing", "manylambda build -t TARGET"),
    (
        "pkg_resources.DistributionNotFound: The 'google-api-core' distribution was not found and is required by the application",
        "metadata-missing",
        "manylambda build -t TARGET",
    ),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/var/task/jsonschema/schemas/draft7.json'",
        "data-file-missing",
        "manylambda build -t TARGET -v",
    ),
    (
        "OSError: Could not find a suitable TLS CA certificate bundle, invalid path: /var/task/certifi/cacert.pem",
        "data-file-missing",
        "manylambda build -t TARGET -v",
    ),
    (
        "botocore.exceptions.UnknownServiceError: Unknown service: 'bedrock-runtime'. Valid service names are: accessanalyzer, account",
        "unknown-service",
        "Add `boto3` to your requirements",
    ),
    # Imports that go wrong
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'myapp': cannot import name 'DEFAULT_CIPHERS' from "
        "'urllib3.util.ssl_' (/opt/python/urllib3/util/ssl_.py)",
        "urllib3-default-ciphers",
        "`urllib3<2`",
    ),
    (
        "Unable to import module 'lambda': urllib3 v2.0 only supports OpenSSL 1.1.1+, currently the 'ssl' module is compiled "
        "with 'OpenSSL 1.0.2k-fips  26 Jan 2017'. See: https://github.com/urllib3/urllib3/issues/2168",
        "urllib3-openssl",
        "`urllib3<2`",
    ),
    (
        "ImportError: cannot import name 'x' from partially initialized module 'y' (most likely due to a circular import) (/var/task/y.py)",
        "circular-import",
        "manylambda audit PACKAGE -t TARGET",
    ),
    (
        "AttributeError: partially initialized module 'random' has no attribute 'randint' (most likely due to a circular import)",
        "circular-import",
        "hides the standard library",
    ),
    (
        "Unable to import module 'app': attempted relative import with no known parent package",
        "relative-import",
        "--handler PACKAGE.MODULE.FUNCTION",
    ),
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'download_and_predict.handler': bad magic number in 'affine': b'U\\r\\r\\n'",
        "bytecode-stale",
        "manylambda build -t TARGET",
    ),
    (
        "ImportError: cannot import name 'Mapping' from 'collections' (/var/lang/lib/python3.10/collections/__init__.py)",
        "stdlib-name-removed",
        "manylambda lock -t python3.10-ARCHITECTURE --upgrade",
    ),
    (
        "AttributeError: module 'pkgutil' has no attribute 'ImpImporter'. Did you mean: 'zipimporter'?",
        "stdlib-name-removed",
        "manylambda lock -t TARGET --upgrade",
    ),
    (
        "ImportError: cannot import name 'UTC' from 'datetime' (/var/lang/lib/python3.10/datetime.py)",
        "stdlib-name-too-new",
        "manylambda build -t python3.14-ARCHITECTURE",
    ),
    (
        "ImportError: cannot import name 'Self' from 'typing' (/var/lang/lib/python3.10/typing.py)",
        "stdlib-name-too-new",
        "manylambda build -t python3.14-ARCHITECTURE",
    ),
    (
        "TypeError: unsupported operand type(s) for |: 'type' and 'NoneType'",
        "union-type",
        "from __future__ import annotations",
    ),
    (
        "ImportError: cannot import name 'TypeIs' from 'typing_extensions' (/opt/python/typing_extensions.py)",
        "import-name-missing",
        "manylambda lock -t TARGET --upgrade",
    ),
    (
        '"errorMessage": "Syntax error in module \'lambda_function\': invalid syntax (lambda_function.py, line 199)",',
        "syntax-error",
        "manylambda build -t python3.14-ARCHITECTURE",
    ),
    # The function's environment
    (
        "PermissionError: [Errno 13] Permission denied: '/var/task/app.py'",
        "permission-denied",
        "chmod -R u=rwX,go=rX FOLDER && zip -r PACKAGE FOLDER",
    ),
    ("/bin/sh: /var/task/bin/tool: Permission denied", "permission-denied", "manylambda build -t TARGET"),
    ("OSError: [Errno 30] Read-only file system: '/home/sbx_user1051'", "read-only", "MPLCONFIGDIR=/tmp"),
    ("module initialization error: [Errno 28] No space left on device", "no-space", "--ephemeral-storage 'Size=2048'"),
    ("[ERROR] OSError: [Errno 38] Function not implemented", "no-shared-memory", "ThreadPoolExecutor"),
    (
        "RequestId: abc-123 Error: Runtime exited with error: signal: killed",
        "out-of-memory",
        "aws lambda update-function-configuration --function-name FUNCTION --memory-size 1024",
    ),
    ("Status: error\tError Type: Runtime.OutOfMemory", "out-of-memory", "--memory-size 1024"),
    (
        "2019-02-13T20:12:38.950Z 41a10717-e9af-11e7-892c-5bb1a4054ed6 Task timed out after 300.09 seconds",
        "timeout",
        "--timeout 30",
    ),
    ("INIT_REPORT Init Duration: 9999.30 ms\tPhase: init\tStatus: timeout", "timeout", "--memory-size 1024"),
    # Deployment
    (
        "An error occurred (RequestEntityTooLargeException) when calling the UpdateFunctionCode operation: Request must be "
        "smaller than 70167211 bytes for the UpdateFunctionCode operation",
        "zip-too-large",
        "aws lambda update-function-code --function-name FUNCTION --s3-bucket BUCKET --s3-key KEY",
    ),
    (
        'Connection was closed before we received a valid response from endpoint URL: "https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/x/code".',
        "zip-too-large",
        "aws s3 cp PACKAGE s3://BUCKET/KEY",
    ),
    (
        'Resource handler returned message: "Unzipped size must be smaller than 262144000 bytes (Service: Lambda, Status Code: 400)"',
        "unzipped-too-large",
        "manylambda audit PACKAGE -t TARGET",
    ),
    (
        "Layers consume more than the available size of 262144000 bytes",
        "unzipped-too-large",
        "a container image (10 GB)",
    ),
    (
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 263669938 bytes.",
        "unzipped-too-large",
        "boto3, botocore",
    ),
    (
        "AWS/CloudFormation UPDATE_FAILED CronFunction ZipFile length cannot exceed 4096 characters. For larger source use S3Bucket/S3Key properties instead.",
        "inline-code-too-large",
        "`S3Bucket` and `S3Key`",
    ),
    ("InvalidParameterValueException: Cannot reference more than 5 layers.", "too-many-layers", "--kind layer"),
    (
        "InvalidParameterValueException: Lambda layers are not supported for functions created with container images.",
        "layers-with-image",
        "`/opt`",
    ),
    ("CodeStorageExceededException: Code storage limit exceeded.", "code-storage", "aws lambda get-account-settings"),
    (
        "An error occurred (InvalidParameterValueException) when calling the PublishLayerVersion operation: Could not unzip "
        "uploaded file. Please check your file, then try to upload again.",
        "zip-invalid",
        "manylambda audit PACKAGE -t TARGET",
    ),
    ("InvalidZipFileException: Lambda could not unzip the deployment package.", "zip-invalid", "`fileb://`"),
    ("Uploaded file must be a non-empty zip (Service: Lambda, Status Code: 400", "zip-empty", "rm -rf cdk.out"),
    ("--zip-file must be a file with the fileb:// prefix.", "fileb-missing", "--zip-file fileb://PACKAGE"),
    (
        'Resource handler returned message: "The image manifest, config or layer media type for the source image '
        '1.dkr.ecr.us-east-1.amazonaws.com/bedrock-proxy-api:latest is not supported. (Service: Lambda, Status Code: 400)"',
        "image-media-type",
        "--provenance=false --sbom=false",
    ),
    (
        "updating Lambda Function code: operation error Lambda: UpdateFunctionCode, The image manifest, config or layer media type for the source image is not supported.",
        "image-media-type",
        "docker buildx build",
    ),
    (
        "InvalidImage: ImageLayerFailure: UnsupportedImageLayerDetected - Layer Digest sha256:eb0495635521a07c170768de6c1b935c89ffd8e9954fe9bb0d6bea58bdb62777",
        "image-layer-unsupported",
        "docker buildx build",
    ),
    (
        "Source image 123.dkr.ecr.eu-west-1.amazonaws.com/x:latest does not exist. Provide a valid source image.",
        "image-missing",
        "aws ecr describe-images",
    ),
    (
        "Lambda does not have permission to access the ECR image. Check the ECR permissions.",
        "ecr-permission",
        "aws ecr set-repository-policy",
    ),
    ("no basic auth credentials", "ecr-login", "aws ecr get-login-password | docker login"),
    (
        "denied: Your authorization token has expired. Reauthenticate and try again.",
        "ecr-login",
        "aws ecr get-login-password",
    ),
    (
        "name unknown: The repository with name 'my-app' does not exist in the registry with id '123456789012'",
        "ecr-repository-missing",
        "aws ecr create-repository --repository-name my-app",
    ),
    (
        "entrypoint requires the handler name to be the first argument",
        "entrypoint-handler",
        "--image-config Command=app.handler",
    ),
    (
        "The runtime parameter of python3.7 is no longer supported for creating or updating AWS Lambda functions. We "
        "recommend you use a supported runtime while creating or updating functions.",
        "runtime-deprecated",
        "manylambda build -t python3.14-ARCHITECTURE",
    ),
    (
        "1 validation error detected: Value 'python3.16' at 'runtime' failed to satisfy constraint: Member must satisfy enum value set",
        "runtime-unknown",
        "manylambda targets",
    ),
    (
        "An error occurred (ResourceConflictException) when calling the UpdateFunctionConfiguration operation: The operation "
        "cannot be performed at this time. An update is in progress for resource: arn:aws:lambda:eu-west-1:123456789012:function:orders",
        "update-in-progress",
        "aws lambda wait function-updated-v2 --function-name orders",
    ),
    ("Error: Provider produced inconsistent final plan", "terraform-inconsistent", "--format json"),
    # Tools that build
    (
        "Error: PythonPipBuilder:ResolveDependencies - {numpy==1.20.3(wheel)}",
        "sam-resolve",
        "manylambda lock -t TARGET",
    ),
    (
        "{simplejson==3.17.0(wheel)}: ResolveDependencies - {simplejson==3.17.0(wheel), python-levenshtein==0.12.0(sdist)}",
        "sam-resolve",
        "manylambda build -t TARGET --allow-sdist python-levenshtein",
    ),
    (
        "You will have to build these yourself and vendor them in",
        "chalice-missing",
        "manylambda build -t TARGET",
    ),
    (
        "Error: PythonPipBuilder:Validation - Binary validation failed for python, searched for python in following locations  : "
        "['/opt/miniconda3/envs/eatlab3.8/bin/python', '/usr/local/bin/python', '/usr/bin/python'] which did not satisfy "
        "constraints for runtime: python3.8. Do you have python for runtime: python3.8 on your PATH?",
        "sam-python-missing",
        "manylambda build -t python3.14-ARCHITECTURE",
    ),
    (
        "RuntimeError: Python interpreter version equal to defined lambda runtime (python3.9) should be available in system PATH",
        "sam-python-missing",
        "needs no other Python",
    ),
    (
        "Error: Docker is unreachable. Docker needs to be running to build inside a container.",
        "docker-missing",
        "build",
    ),
    ("Error: spawnSync docker ENOENT", "docker-missing", "Build without Docker"),
    (
        "ERROR: Could not find a version that satisfies the requirement pandas==3.0.3 (from versions: 1.5.0, 1.5.1)",
        "pip-no-match",
        "manylambda build -t TARGET --allow-sdist pandas",
    ),
    ("ERROR: No matching distribution found for pandas==3.0.3", "pip-no-match", "manylambda plan -t TARGET -v"),
    (
        "  cause: Because numpy==2.4.0 has no usable wheels and you require numpy==2.4.0, we can conclude that your requirements are unsatisfiable.",
        "uv-no-wheel",
        "manylambda lock -t TARGET",
    ),
    (
        "  cause: Because all versions of netifaces have no usable wheels and you require netifaces, we can conclude that your requirements are unsatisfiable.",
        "uv-no-wheel",
        "--allow-sdist netifaces",
    ),
    (
        "error: Distribution `pyside6==6.9.0 @ registry+https://pypi.org/simple` can't be installed because it doesn't have a source distribution or wheel for the current platform",
        "uv-no-wheel",
        "manylambda plan -t TARGET -v",
    ),
    (
        "error: invalid value 'x86_64-manylinux_2_26' for '--python-platform <PYTHON_PLATFORM>'",
        "uv-platform",
        "manylambda build -t TARGET",
    ),
    ("  × No solution found when resolving dependencies:", "no-solution", "manylambda plan -t TARGET"),
    ("ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/", "no-solution", "manylambda plan"),
    (
        "ERROR: numpy-2.2.6-cp311-cp311-manylinux_2_17_x86_64.whl is not a supported wheel on this platform.",
        "not-a-supported-wheel",
        "manylambda build -t TARGET",
    ),
    (
        "ERROR: Package 'numpy' requires a different Python: 3.8.10 not in '>=3.9'",
        "requires-python",
        "manylambda lock -t TARGET --upgrade",
    ),
    (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions",
        "hash-mismatch",
        "manylambda lock -t TARGET",
    ),
    ("  ERROR: Failed building wheel for netifaces", "compiler-missing", "manylambda lock -t TARGET"),
    ("error: command 'gcc' failed: No such file or directory", "compiler-missing", "`psycopg2-binary`"),
    ("Error: pg_config executable not found.", "compiler-missing", "`psycopg2-binary`"),
    (
        "distutils.errors.DistutilsOptionError: must supply either home or prefix/exec-prefix -- not both",
        "home-and-prefix",
        "manylambda build -t TARGET",
    ),
    (
        "OSError: [WinError 206] The filename or extension is too long",
        "windows-path",
        "manylambda build -t TARGET",
    ),
    # When nothing says more
    (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': something unheard of",
        "import-module-error",
        "manylambda audit PACKAGE -t TARGET --handler app.FUNCTION",
    ),
    (
        "RequestId: 1 Error: Runtime exited with error: exit status 1",
        "runtime-exit",
        "manylambda audit PACKAGE -t TARGET",
    ),
    ("Runtime.InvalidEntrypoint", "invalid-entrypoint", "docker buildx build"),
]


def words(cause: Cause) -> str:
    return "\n".join(part for step in cause.cure for part in step if part)


def diagnosed(text: str, target: str | None = None) -> Diagnosis:
    return find([text], target=Target.parse(target) if target else None)


def only(text: str, target: str | None = None) -> Cause:
    (cause,) = diagnosed(text, target).causes
    return cause


@pytest.mark.parametrize(("text", "cause", "cure"), SAMPLES, ids=[f"{one[1]}-{n}" for n, one in enumerate(SAMPLES)])
def test_a_text_shows_its_cause_and_how_to_mend_it(text: str, cause: str, cure: str) -> None:
    found = only(text)
    assert found.id == cause
    assert cure in words(found)
    assert found.number == 1
    assert not re.search(r"\{\w*\}|\?\.", found.meaning + found.why + words(found).replace("={}", ""))


def test_every_cause_has_a_text_that_shows_it() -> None:
    assert {one["id"] for one in DATA["causes"]} == {cause for _, cause, _ in SAMPLES}


# What the text tells besides: whose function it is, which distribution, which is the root.


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/var/task/_x.cpython-312-aarch64-linux-gnu.so: file too short", "python3.12-arm64"),
        (
            '  File "/var/lang/lib/python3.11/importlib/__init__.py", line 126\n[Errno 38] Function not implemented',
            "python3.11",
        ),
        ("INIT_START Runtime Version: python:3.13.v27\nTask timed out after 3.00 seconds", "python3.13"),
        ('{"runtimeVersion":"python:3.10.v9"}\nTask timed out after 3.00 seconds', "python3.10"),
        ("FROM public.ecr.aws/lambda/python:3.12-arm64\nRuntime.InvalidEntrypoint", "python3.12-arm64"),
        ("Task timed out after 3.00 seconds", ""),
        (
            "incompatible with with either python 'cpython-311' or the platform 'linux':\n\n"
            "  * _multiarray_umath.cpython-311-aarch64-linux-gnu.so\n\nImporting the numpy C-extensions failed.",
            "python3.11-x86_64",  # what lies there is for the other machine than the one that looks
        ),
    ],
)
def test_a_text_tells_the_function_s_target(text: str, target: str) -> None:
    found = diagnosed(text)
    assert "-".join(part for part in (found.runtime, found.architecture) if part) == target


def test_what_the_user_says_of_the_target_counts_more_than_the_text() -> None:
    text = "/var/task/_x.cpython-312-aarch64-linux-gnu.so: file too short"
    assert "manylambda build -t python3.13-x86_64" in words(only(text, "python3.13-x86_64"))


def test_a_runtime_that_nobody_can_deploy_is_not_built_for() -> None:
    text = '  File "/var/lang/lib/python3.7/x.py"\n[ERROR] ImportError: /var/task/x.abi3.so: invalid ELF header'
    assert diagnosed(text).runtime == "python3.7"
    assert "manylambda build -t python3.14-ARCHITECTURE" in words(only(text))


def test_the_function_is_named_where_the_text_names_it() -> None:
    text = "/aws/lambda/orders-api 2026/11/22/[$LATEST]1f Task timed out after 3.00 seconds"
    assert "--function-name orders-api --timeout 30" in words(only(text))


@pytest.mark.parametrize(
    ("path", "distribution"),
    [
        ("/var/task/cv2/cv2.abi3.so", "opencv-python"),
        ("/opt/python/numpy/_core/x.so", "numpy"),
        ("/opt/python/lib/python3.12/site-packages/PIL/_imaging.so", "pillow"),
        ("/var/task/scikit_learn.libs/libgomp-d22c30c5.so.1.0.0", "scikit-learn"),
        ("/var/task/_cffi_backend.cpython-312-x86_64-linux-gnu.so", "cffi"),
        ("/tmp/sls-py-req/grpc/_cython/cygrpc.so", "grpcio"),
        ("/home/me/.venv/lib/python3.12/site-packages/google/_upb/_message.abi3.so", "protobuf"),
    ],
)
def test_a_path_tells_the_distribution(path: str, distribution: str) -> None:
    assert only(f"ImportError: {path}: invalid ELF header").values["distribution"] == distribution


@pytest.mark.parametrize("path", ["/var/task/lib/libx.so", "/opt/lib/libx.so.1", "libx.so.1"])
def test_a_library_at_large_belongs_to_no_distribution(path: str) -> None:
    assert "distribution" not in only(f"ImportError: {path}: invalid ELF header").values


def test_what_was_removed_from_python_is_no_cause_for_a_runtime_that_has_it() -> None:
    assert only("No module named 'cgi'", "python3.13-arm64").id == "stdlib-removed"
    assert only("No module named 'cgi'", "python3.12-arm64").id == "stdlib-extension-missing"
    assert only("No module named 'tomllib'", "python3.10-arm64").id == "stdlib-too-new"


LOG = """\
INIT_START Runtime Version: python:3.12.v27\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:8865cfc6
[ERROR] Runtime.ImportModuleError: Unable to import module 'app': libGL.so.1: cannot open shared object file: No such file or directory
Traceback (most recent call last):
INIT_REPORT Init Duration: 652.24 ms\tPhase: init\tStatus: error\tError Type: Runtime.ImportModuleError
START RequestId: 8e4fda21-3939-4a20-8d52-8eb18debcd13 Version: $LATEST
[ERROR] Runtime.ImportModuleError: Unable to import module 'app': libGL.so.1: cannot open shared object file: No such file or directory
2026-11-22T19:12:38.950Z 8e4fda21-3939-4a20-8d52-8eb18debcd13 Task timed out after 3.00 seconds
END RequestId: 8e4fda21-3939-4a20-8d52-8eb18debcd13
REPORT RequestId: 8e4fda21-3939-4a20-8d52-8eb18debcd13\tDuration: 3000.31 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 3 MB
RequestId: 8e4fda21-3939-4a20-8d52-8eb18debcd13 Error: Runtime exited with error: exit status 1
Runtime.ExitError
"""


def test_a_whole_log_gives_each_cause_once_with_its_first_line() -> None:
    found = diagnosed(LOG)
    assert [(one.id, one.number) for one in found.causes] == [("library-missing", 2), ("timeout", 7)]
    assert found.causes[0].line == LOG.splitlines()[1]
    assert (found.runtime, found.lines) == ("python3.12", 11)


def test_a_log_may_come_in_pieces_of_any_size() -> None:
    whole = diagnosed(LOG)
    assert all(find(LOG[at : at + size] for at in range(0, len(LOG), size)) == whole for size in (1, 7, 100, 1000))


def test_a_chain_of_exceptions_gives_the_innermost_first() -> None:
    """As numpy prints it, with the reason in its last line."""
    text = (
        "Traceback (most recent call last):\n"
        '  File "/var/task/numpy/__init__.py", line 112, in <module>\n'
        "ImportError: Error importing numpy: you should not try to import numpy from\n"
        "        its source directory; please exit the numpy source tree, and relaunch\n"
        "Importing the numpy C-extensions failed. This error can happen for\n"
        "Original error was: No module named 'numpy._core._multiarray_umath'\n"
    )
    assert [one.id for one in diagnosed(text).causes] == ["extension-missing", "numpy-import"]


def test_two_libraries_are_two_causes() -> None:
    text = "libGL.so.1: cannot open shared object file\nlibpq.so.5: cannot open shared object file\n" * 3
    assert [one.values["library"] for one in diagnosed(text).causes] == ["libGL.so.1", "libpq.so.5"]


def test_the_versions_of_one_file_are_one_cause() -> None:
    text = "\n".join(
        f"/lib64/libc.so.6: version `GLIBC_{version}' not found (required by /var/task/pyarrow/lib.so)"
        for version in ("2.27", "2.28", "2.34")
    )
    assert [one.values["glibc"] for one in diagnosed(text).causes] == ["2.27"]


MESSAGE = "Unable to import module 'app': /var/task/x.abi3.so: invalid ELF header"
DOCUMENT = {"errorMessage": MESSAGE, "errorType": "Runtime.ImportModuleError", "stackTrace": []}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(DOCUMENT),
        json.dumps(DOCUMENT, indent=2),
        json.dumps({"timestamp": "2026-11-22T19:00:00Z", "log_level": "ERROR", **DOCUMENT}),
        json.dumps(
            {"level": "ERROR", "message": f'first\n  File "/var/task/app.py", line 1\nImportError: {MESSAGE}\n'}
        ),
        json.dumps({"log": json.dumps({"message": json.dumps(DOCUMENT)})}),  # a document in a string of a document
        f"2026-11-22T19:00:00.000Z\t1f2e\t\x1b[31mERROR\x1b[0m\t{MESSAGE}",
        f"| 2026-11-22T19:00:00.000+01:00 | [ERROR] Runtime.ImportModuleError: {MESSAGE} |",
        f"│ Error: {MESSAGE}\n│\n│   with module.x\n",
        MESSAGE.replace(": invalid", ":\n│ invalid"),  # a terminal wrapped it
        json.dumps({"StatusCode": 200, "LogResult": base64.b64encode(f"START\n{MESSAGE}\nEND\n".encode()).decode()}),
        MESSAGE.replace("\n", "\r\n") + "\r\n",
    ],
)
def test_a_message_is_found_in_whatever_it_is_wrapped(text: str) -> None:
    found = only(text)
    assert found.id == "foreign-binary"
    assert found.values["path"] == "/var/task/x.abi3.so"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "START RequestId: 8e4fda21 Version: $LATEST\nEND RequestId: 8e4fda21\n",
        "REPORT RequestId: 1\tDuration: 2500.00 ms\tBilled Duration: 2500 ms\tMemory Size: 256 MB\tMax Memory Used: 254 MB",
        "KeyError: 'Records'",
        "botocore.exceptions.ClientError: An error occurred (AccessDenied) when calling the GetObject operation: Access Denied",
        "FileNotFoundError: [Errno 2] No such file or directory: '/tmp/data.csv'",
        "PermissionError: [Errno 13] Permission denied: '/home/sbx_user1051/.cache'",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x', port=443): Max retries exceeded",
        "the version of the library is not found in the catalogue",
        "numpy 2.2.6 was imported",
        "name 'x' is not defined",
        "Permission denied (publickey).",
        "version `2.0' not found",
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "cannot import the orders of yesterday",
        "No module was loaded",
    ],
)
def test_other_lines_are_no_cause(text: str) -> None:
    assert diagnosed(text).causes == ()


# The data.


def test_the_rules_of_a_cause_are_rules() -> None:
    assert {rule for one in DATA["causes"] for rule in one["rules"]} <= {rule.name for rule in ALL}


@pytest.mark.parametrize("rule", sorted({one["rules"][0] for one in DATA["causes"] if one["rules"]}))
def test_a_log_line_of_a_rule_s_page_leads_back_to_the_rule(rule: str) -> None:
    """Or to nothing, where the page has no line of a log."""
    log = " ".join(pages.page(rule).log.split())
    lines = [one or other for one, other in re.findall(r"``(.+?)``|`([^`]+)`", log)]
    found = [cause.rules for line in lines for cause in diagnosed(line).causes]
    assert any(rule in rules for rules in found) or rule in {"wheel-tag-mismatch", "record-mismatch"}


def test_every_mark_and_pattern_is_used_by_a_text() -> None:
    texts = "\n".join(text for text, _, _ in SAMPLES)
    for one in DATA["causes"]:
        assert len(set(one["marks"])) == len(one["marks"]), one["id"]
        assert any(mark in texts for mark in one["marks"]), one["id"]
        for pattern in one["patterns"]:
            re.compile(pattern)
            assert not re.search(r"[+*]\)[+*]", pattern), f"{one['id']}: a repeat of a repeat"


def test_names_are_unique_and_words_are_sentences() -> None:
    names = [one["id"] for one in DATA["causes"]]
    assert len(set(names)) == len(names)
    for one in DATA["causes"]:
        assert one["meaning"].endswith((".", ")")), one["id"]
        assert one["why"].endswith((".", ")")), one["id"]
        assert one["source"], one["id"]
        assert one["cure"], one["id"]


# Hostile input.


def hostile() -> Iterator[str]:
    fillers = ("a_1.so", "a", "/", "'a", "(", " ", '\\"', "No module named ", "version `A")
    for number, one in enumerate(DATA["causes"]):
        for filler in {fillers[0], fillers[number % len(fillers)]}:
            yield filler * (12_000 // len(filler)) + one["marks"][0] + filler * (3_000 // len(filler))


def test_no_pattern_takes_long_however_a_line_is_made() -> None:
    slowest = 0.0
    for text in hostile():
        begun = time.process_time()
        find([text])
        slowest = max(slowest, time.process_time() - begun)
    assert slowest < 0.5


def test_a_long_log_is_read_in_bounded_memory_and_time() -> None:
    line = "2026-11-22T19:00:00.000Z\t8e4fda21-3939-4a20-8d52-8eb18debcd13\tINFO\tprocessed order 4711, version 3, failed 0\n"
    block = line * (1_000_000 // len(line))
    tracemalloc.start()
    begun = time.process_time()
    found = find([*[block] * 20, MESSAGE, "\n", *[block] * 20])
    took = time.process_time() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [one.id for one in found.causes] == ["foreign-binary"]
    assert found.lines == 40 * block.count("\n") + 1
    assert peak < 40 << 20
    assert took < 20


def test_a_line_without_end_and_a_thousand_faults_stay_small() -> None:
    found = find(f"No module named 'm{number}' " * 50 for number in range(3000))
    assert 1 <= len(found.causes) <= 12
    assert all(len(one.line) < 600 for one in found.causes)
    many = find(f"No module named 'm{number}'\n" for number in range(100_000))
    assert len(many.causes) == 12
    assert many.lines == 100_000


def test_what_a_text_holds_is_shown_without_control_characters() -> None:
    shown = only("ImportError: /var/task/\x1b]0;x\x07y.so: invalid ELF header").line
    assert shown.isprintable()


def test_the_path_in_a_package_is_below_the_search_path() -> None:
    assert causes.package_path("/var/task/numpy/x.so") == "numpy/x.so"
    assert causes.package_path("/opt/python/lib/python3.12/site-packages/numpy/x.so") == "numpy/x.so"
    assert causes.package_path("/opt/lib/libx.so") == "lib/libx.so"
    assert causes.package_path("numpy/x.so") == "numpy/x.so"
