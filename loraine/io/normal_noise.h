// Normal numbers that depend on a seed, a name and a place alone, so that every machine and order draws the same. Called by what makes
// weights that no file holds.
#pragma once
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace loraine {

class NormalNoise {
 public:
  NormalNoise(uint64_t seed, std::string_view name) : key_(mixed(seed)) {
    for (const char c : name) key_ = mixed(key_ ^ static_cast<unsigned char>(c));
  }
  double at(uint64_t place) const {  // Box and Muller
    const double radius = std::sqrt(-2 * std::log(unit(mixed(key_ ^ (2 * place)))));
    return radius * std::cos(2 * std::numbers::pi * unit(mixed(key_ ^ (2 * place + 1))));
  }

 private:
  static uint64_t mixed(uint64_t x) {  // splitmix64
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  static double unit(uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }  // in (0, 1)
  uint64_t key_;
};

}  // namespace loraine
