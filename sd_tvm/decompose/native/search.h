/*! \file search.h
 *  \brief Coefficients c of an alphabet that bring c . B nearest to a row: depth-first, with a
 * bound.
 *
 *  The basis is made triangular, B = L Q; coefficient S-1 is chosen first, since L leaves it alone
 * in its column. Levels are tried in the order of their distance; a branch ends where its error
 * exceeds the best.
 */
#ifndef SD_TVM_DECOMPOSE_NATIVE_SEARCH_H_
#define SD_TVM_DECOMPOSE_NATIVE_SEARCH_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sd {

/*! \brief Levels by distance: row e of the table holds them for x in [(e - offset) / 2, (e - offset
 * + 1) / 2). */
struct Levels {
  const float* ranked;  // entries x count
  int count;
  int offset;  // entry of x = 0; there are 2 * offset entries

  template <typename T>
  const float* row(T x) const {
    const T edge = static_cast<T>(offset);
    const T twice = std::min(std::max(2 * x, -edge), edge - 1);
    int entry = static_cast<int>(twice);
    entry -= static_cast<T>(entry) > twice;
    return ranked + static_cast<int64_t>(entry + offset) * count;
  }
};

/*! \brief Orthonormal rows Q and lower triangular L of a basis; a dependent row has a zero in L's
 * diagonal. */
template <typename T, int S>
struct Triangular {
  T q[S][S];
  T low[S][S];
  T inverse[S];

  explicit Triangular(const T* basis) {
    const int times = sizeof(T) == 4 ? 2 : 1;  // a second time makes up for short floats
    for (int i = 0; i < S; ++i) {
      T rest[S];
      T whole = 0;
      for (int k = 0; k < S; ++k) {
        rest[k] = basis[i * S + k];
        low[i][k] = 0;
        whole += rest[k] * rest[k];
      }
      for (int time = 0; time < times; ++time) {
        for (int j = 0; j < i; ++j) {
          T part = 0;
          for (int k = 0; k < S; ++k) part += rest[k] * q[j][k];
          low[i][j] += part;
          for (int k = 0; k < S; ++k) rest[k] -= part * q[j][k];
        }
      }
      T square = 0;
      for (int k = 0; k < S; ++k) square += rest[k] * rest[k];
      const bool fine = square > static_cast<T>(1e-10) * whole;
      const T norm = fine ? std::sqrt(square) : T(1);
      low[i][i] = fine ? norm : T(0);
      inverse[i] = fine ? T(1) / norm : T(0);
      for (int k = 0; k < S; ++k) q[i][k] = fine ? rest[k] / norm : T(0);
    }
  }
};

/*! \brief Search with one basis; branches[d] levels are tried for coefficient S-1-d. */
template <typename T, int S>
class Search {
 public:
  Search(const Triangular<T, S>& basis, const Levels& levels, const int* branches)
      : basis_(basis), levels_(levels) {
    for (int d = 0; d < S; ++d) tries_[d] = std::min(branches[d], levels.count);
  }

  /*! \brief Best coefficients for a row; \p current is kept where nothing is better (may be null).
   */
  void Row(const T* target, const T* current, T* out) {
    std::array<T, S> y;
    for (int i = 0; i < S; ++i) {
      y[i] = 0;
      for (int k = 0; k < S; ++k) y[i] += target[k] * basis_.q[i][k];
    }
    best_ = std::numeric_limits<T>::infinity();
    found_.fill(0);
    if (current != nullptr) {
      best_ = 0;
      for (int i = 0; i < S; ++i) {
        T error = y[i];
        for (int j = i; j < S; ++j) error -= current[j] * basis_.low[j][i];
        best_ += error * error;
      }
      std::copy(current, current + S, found_.begin());
    }
    Down<S - 1>(y, T(0));
    std::copy(found_.begin(), found_.end(), out);
  }

 private:
  template <int I>
  void Down(const std::array<T, S>& rest, T cost) {
    const float* ranked = levels_.row(rest[I] * basis_.inverse[I]);
    for (int rank = 0; rank < tries_[S - 1 - I]; ++rank) {
      const T c = static_cast<T>(ranked[rank]);
      const T error = rest[I] - c * basis_.low[I][I];
      const T sum = error * error + cost;
      if (!(sum < best_)) return;  // the levels after it are farther
      path_[I] = c;
      if constexpr (I == 0) {
        best_ = sum;
        found_ = path_;
        return;
      } else {
        std::array<T, S> next;
        for (int j = 0; j < I; ++j) next[j] = rest[j] - c * basis_.low[I][j];
        Down<I - 1>(next, sum);
      }
    }
  }

  const Triangular<T, S>& basis_;
  const Levels& levels_;
  int tries_[S];
  T best_ = 0;
  std::array<T, S> path_{};
  std::array<T, S> found_{};
};

}  // namespace sd

#endif  // SD_TVM_DECOMPOSE_NATIVE_SEARCH_H_
