# A package for AWS Lambda, built by manylambda while Terraform plans: its name and hash are known then, and are the
# same on every machine. Written by `manylambda init terraform`; yours to change.

terraform {
  required_version = ">= 1.3"
  required_providers {
    external = {
      source  = "hashicorp/external"
      version = ">= 2.3"
    }
  }
}

variable "project" {
  type        = string
  description = "The project's folder: its code, and its lock or requirements."
}

variable "runtime" {
  type        = string
  description = "Lambda's runtime, such as `python3.13`."
}

variable "architecture" {
  type        = string
  default     = "x86_64"
  description = "`x86_64` or `arm64`."
  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture must be x86_64 or arm64."
  }
}

variable "kind" {
  type        = string
  default     = "zip"
  description = "`zip` for a function, `layer` for a layer with its dependencies."
  validation {
    condition     = contains(["zip", "layer"], var.kind)
    error_message = "The kind must be zip or layer."
  }
}

variable "handler" {
  type        = string
  default     = null
  description = "What Lambda will call, such as `app.handler`; the build looks for it."
}

variable "arguments" {
  type        = list(string)
  default     = []
  description = "More flags of `manylambda build`, such as [\"--exclude-provided\"]."
}

variable "program" {
  type        = list(string)
  default     = ["manylambda"]
  description = "How manylambda is run, such as [\"uv\", \"run\", \"manylambda\"]."
}

data "external" "package" {
  program = concat(
    var.program,
    ["build", var.project, "--target", "${var.runtime}-${var.architecture}", "--kind", var.kind],
    var.handler == null ? [] : ["--handler", var.handler],
    var.arguments,
    ["--format", "terraform"],
  )
}

output "filename" {
  value       = data.external.package.result.filename
  description = "The zip, relative to the folder that Terraform runs in."
}

output "source_code_hash" {
  value       = data.external.package.result.source_code_hash
  description = "The sha256 of the zip in base64, as Lambda's CodeSha256."
}

output "runtime" {
  value = var.runtime
}

output "architectures" {
  value = [var.architecture]
}

output "handler" {
  value = var.handler
}
