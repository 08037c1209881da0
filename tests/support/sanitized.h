// Whether this is the build under ASan and UBSan, where long tests take a part of their cases: the plain build takes all of them.
#pragma once

namespace loraine {

#if defined(LORAINE_SANITIZE)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

}  // namespace loraine
