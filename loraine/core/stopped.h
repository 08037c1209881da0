// Thrown out of long work whose caller asked it to end: evaluation and export. Not an Error, nothing went wrong.
#pragma once

namespace loraine {

struct Stopped {};

}  // namespace loraine
