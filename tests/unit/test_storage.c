/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"
UNIT_TEST(x,"x"){}
