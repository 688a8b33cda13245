"""Write everything that is generated: `docs/reference`, the schema of the settings, the page of Powertools, the manual.

python tools/generate.py            write what differs
python tools/generate.py --check    exit 1 when something does
"""

from __future__ import annotations

import generate_api
import generate_command_line
import generate_configuration
import generate_errors
import generate_json
import generate_manual
import generate_powertools
import generate_rules
import generate_targets
import generated

if __name__ == "__main__":
    raise SystemExit(
        generated.run(
            generate_configuration.wanted,
            generate_rules.wanted,
            generate_command_line.wanted,
            generate_errors.wanted,
            generate_json.wanted,
            generate_powertools.wanted,
            generate_manual.wanted,
            generate_targets.wanted,
            generate_api.wanted,
        )
    )
