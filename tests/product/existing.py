"""Projects as the tools that people come from make them: `sam init`, `serverless create`, `cdk init`, and others."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HANDLER: Final = """
    import json

    import requests

    def {name}(event, context):
        return {{"statusCode": 200, "body": json.dumps({{"message": "hello world"}})}}
    """

SAM: Final = {
    "README.md": "# sam-app\n",
    "samconfig.toml": """
        version = 0.1

        [default]
        [default.global.parameters]
        stack_name = "sam-app"

        [default.build.parameters]
        cached = true
        parallel = true
        """,
    "template.yaml": """
        AWSTemplateFormatVersion: '2010-09-09'
        Transform: AWS::Serverless-2016-10-31
        Description: >
          sam-app

        Globals:
          Function:
            Timeout: 3

        Resources:
          HelloWorldFunction:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: hello_world/
              Handler: app.lambda_handler
              Runtime: python3.13
              Architectures:
                - arm64
              Events:
                HelloWorld:
                  Type: Api
                  Properties:
                    Path: /hello
                    Method: get

        Outputs:
          HelloWorldFunction:
            Value: !GetAtt HelloWorldFunction.Arn
        """,
    "hello_world/__init__.py": "",
    "hello_world/app.py": _HANDLER.format(name="lambda_handler"),
    "hello_world/requirements.txt": "requests\n",
    "tests/__init__.py": "",
    "tests/requirements.txt": "pytest\nboto3\n",
    "events/event.json": "{}",
}
"""`sam init`, the template hello-world."""

POWERTOOLS: Final = {
    "template.yaml": """
        Transform: AWS::Serverless-2016-10-31
        Globals:
          Function:
            Runtime: python3.12
            Handler: app.lambda_handler
            Tracing: Active
        Resources:
          Orders:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: orders
              Architectures: [arm64]
          Billing:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: billing
          Page:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: page
              Runtime: nodejs22.x
        """,
    "orders/app.py": _HANDLER.format(name="lambda_handler"),
    "orders/requirements.txt": "requests\n",
    "billing/app.py": _HANDLER.format(name="lambda_handler"),
    "billing/requirements.txt": "requests\n",
    "page/app.js": "",
}
"""Several functions, each with a folder of its own, and one that is none of ours."""

SERVERLESS: Final = {
    "serverless.yml": """
        service: aws-python-project
        frameworkVersion: '4'
        provider:
          name: aws
          runtime: python3.12
          architecture: arm64
          environment:
            TABLE: ${self:service}-table
        custom:
          pythonRequirements:
            fileName: requirements-lambda.txt
        functions:
          hello:
            handler: src/app.hello
            events:
              - httpApi: GET /
        plugins:
          - serverless-python-requirements
        """,
    "package.json": "{}",
    "requirements.txt": "black\n",
    "requirements-lambda.txt": "requests\n",
    "src/app.py": _HANDLER.format(name="hello"),
}
"""`serverless create`, the template aws-python, with the plugin that brings requirements."""

CDK_PYTHON: Final = {
    "cdk.json": '{"app": "python3 app.py"}',
    "app.py": """
        import aws_cdk as cdk
        from shop.shop_stack import ShopStack

        app = cdk.App()
        ShopStack(app, "ShopStack")
        app.synth()
        """,
    "requirements.txt": "aws-cdk-lib==2.200.0\nconstructs>=10.0.0,<11.0.0\n",
    "shop/__init__.py": "",
    "shop/shop_stack.py": """
        import os
        from aws_cdk import Stack, aws_lambda as _lambda
        from constructs import Construct

        class ShopStack(Stack):
            def __init__(self, scope: Construct, construct_id: str, **kwargs) -> None:
                super().__init__(scope, construct_id, **kwargs)
                dirname = os.path.dirname(__file__)
                _lambda.Function(
                    self, "Resize",
                    runtime=_lambda.Runtime.PYTHON_3_13,
                    architecture=_lambda.Architecture.ARM_64,
                    handler="index.handler",
                    code=_lambda.Code.from_asset(os.path.join(dirname, "..", "resize"), exclude=["*.md"]))
                _lambda.Function(
                    self, "HelloHandler",
                    runtime=_lambda.Runtime.PYTHON_3_13,
                    architecture=_lambda.Architecture.ARM_64,
                    code=_lambda.Code.from_asset("lambda"),
                    handler="hello.handler",  # not that of (another) one
                )
        """,
    "lambda/hello.py": "def handler(event, context):\n    return {}\n",
    "resize/index.py": "def handler(event, context):\n    return {}\n",
}
"""`cdk init app --language python`, with the function of its tutorial."""

CDK_TYPESCRIPT: Final = {
    "cdk.json": '{"app": "npx ts-node bin/shop.ts"}',
    "package.json": "{}",
    "node_modules/other/index.ts": "new lambda.Function(this, 'X', { runtime: lambda.Runtime.PYTHON_3_9 })",
    "lib/shop-stack.ts": """
        import * as path from 'path';
        import * as lambda from 'aws-cdk-lib/aws-lambda';
        import { PythonFunction } from '@aws-cdk/aws-lambda-python-alpha';

        const runtime = lambda.Runtime.PYTHON_3_12;
        export class ShopStack extends cdk.Stack {
          constructor(scope: Construct, id: string, props?: cdk.StackProps) {
            super(scope, id, props);
            new lambda.Function(this, 'Thumbnail', {
              runtime: runtime,
              architecture: lambda.Architecture.X86_64,
              code: lambda.Code.fromAsset(path.join(__dirname, '../lambda')),
              handler: 'index.main',
            });
            new PythonFunction(this, 'Report', {
              entry: 'report',
              index: 'run.py',
              runtime,
              architecture: lambda.Architecture.ARM_64,
            });
          }
        }
        """,
    "lambda/index.py": "def main(event, context):\n    return {}\n",
    "report/run.py": _HANDLER.format(name="handler"),
    "report/requirements.txt": "requests\n",
}

TERRAFORM: Final = {
    "main.tf": """
        variable "runtime" {
          type    = string
          default = "python3.12"
        }

        data "archive_file" "lambda" {
          type        = "zip"
          source_dir  = "${path.module}/src"
          output_path = "lambda.zip"
        }

        resource "aws_lambda_function" "api" {
          filename      = data.archive_file.lambda.output_path
          function_name = "api"
          handler       = "main.handler"
          runtime       = var.runtime
          architectures = ["arm64"]
          environment {
            variables = { handler = "none" }
          }
        }
        """,
    "src/main.py": _HANDLER.format(name="handler"),
    "src/requirements.txt": "requests\n",
}

CHALICE: Final = {
    ".chalice/config.json": """
        {
          "version": "2.0",
          "app_name": "shop",
          "lambda_architecture": "arm64",
          "stages": {
            "dev": {
              "api_gateway_stage": "api"
            }
          }
        }
        """,
    ".python-version": "3.12\n",
    "app.py": "import requests\n\ndef app(event, context):\n    return {}\n",
    "requirements.txt": "requests\n",
}
"""`chalice new-project`, the template rest-api; its `app` is an object that is called."""

ZAPPA: Final = {
    "zappa_settings.json": """
        {
            "dev": {
                "app_function": "app.app",
                "runtime": "python3.12",
                "architecture": ["arm64"]
            }
        }
        """,
    "app.py": "app = None\n",
    "requirements.txt": "requests\n",
}

REQUIREMENTS: Final = {
    "lambda_function.py": _HANDLER.format(name="lambda_handler"),
    "requirements.txt": "requests\n",
    ".python-version": "3.12.4\n",
}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a project's files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return folder
