// How deep the evaluation of a template may go. Held by every step of it.
#pragma once
#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

inline constexpr int kMaxEvalDepth = 1500;

struct Depth {
  int& depth;
  explicit Depth(int& d) : depth(d) {
    charge(1);
    if (++depth > kMaxEvalDepth) {
      --depth;
      fail("RecursionError", "maximum recursion depth exceeded");
    }
  }
  ~Depth() { --depth; }
};

}  // namespace loraine::jinja
