/*! \file fit.cc
 *  \brief The loops of the decomposition that NumPy is too slow for, with a plain C interface.
 *
 *  sd_tvm/decompose/native/__init__.py calls them and verifies shapes; docs/decomposition.md has
 * the algorithm.
 */
#include <cstdint>
#include <type_traits>

#include "search.h"

namespace {

using sd::Levels;

/*! \brief Calls f.template operator()<S>() for the size s of a row. */
template <typename F>
void WithSize(int s, const F& f) {
  switch (s) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    case 4:
      return f(std::integral_constant<int, 4>());
    case 5:
      return f(std::integral_constant<int, 5>());
    case 6:
      return f(std::integral_constant<int, 6>());
    case 7:
      return f(std::integral_constant<int, 7>());
    default:
      return f(std::integral_constant<int, 8>());
  }
}

/*! \brief Best coefficients of many rows with one basis. */
template <int S, typename T>
void SearchRows(const T* target, const T* basis, const T* current, T* out, int64_t rows,
                const Levels& levels, const int* branches) {
  const sd::Triangular<T, S> triangular(basis);
  sd::Search<T, S> search(triangular, levels, branches);
  for (int64_t r = 0; r < rows; ++r) {
    search.Row(target + r * S, current == nullptr ? nullptr : current + r * S, out + r * S);
  }
}

template <typename T>
void SearchAll(const T* target, const T* basis, const T* current, T* out, int64_t n, int64_t rows,
               int s, const Levels& levels, const int* branches) {
  WithSize(s, [&](auto size) {
    constexpr int S = decltype(size)::value;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = i * rows * S;
      SearchRows<S>(target + at, basis + i * S * S, current == nullptr ? nullptr : current + at,
                    out + at, rows, levels, branches);
    }
  });
}

/*! \brief Step of least error for step * identity, among factors of the largest value over the
 * largest level. */
float FirstStep(const float* rows, int64_t size, const Levels& levels, const double* factors,
                int n_factors) {
  float top = 0;
  for (int64_t i = 0; i < size; ++i) top = std::max(top, std::abs(rows[i]));
  if (top <= 0) return 1;
  top /= levels.ranked[(2 * static_cast<int64_t>(levels.offset) - 1) * levels.count];
  float step = 1;
  double least = std::numeric_limits<double>::infinity();
  for (int f = 0; f < n_factors; ++f) {
    const float trial = top * static_cast<float>(factors[f]);
    const float inverse = 1 / trial;
    float error = 0;
    for (int64_t i = 0; i < size; ++i) {
      const float off = *levels.row(rows[i] * inverse) * trial - rows[i];
      error += off * off;
    }
    if (error < least) {
      least = error;
      step = trial;
    }
  }
  return step;
}

/*! \brief Least-squares basis of coefficients, held at the old one where they say nothing. */
template <int S>
void Refit(const float* coef, const float* rows, int64_t count, float* basis) {
  double gram[S][S] = {};
  double right[S][S] = {};
  for (int64_t r = 0; r < count; ++r) {
    const float* c = coef + r * S;
    const float* w = rows + r * S;
    for (int i = 0; i < S; ++i) {
      for (int j = 0; j <= i; ++j) gram[i][j] += static_cast<double>(c[i]) * c[j];
      for (int j = 0; j < S; ++j) right[i][j] += static_cast<double>(c[i]) * w[j];
    }
  }
  double trace = 0;
  for (int i = 0; i < S; ++i) trace += gram[i][i];
  const double ridge = trace > 0 ? 1e-6 * trace / S : 1.0;
  for (int i = 0; i < S; ++i) {
    gram[i][i] += ridge;
    for (int j = 0; j < S; ++j) right[i][j] += ridge * basis[i * S + j];
  }
  for (int i = 0; i < S; ++i) {  // Cholesky in place
    for (int j = 0; j <= i; ++j) {
      double sum = gram[i][j];
      for (int k = 0; k < j; ++k) sum -= gram[i][k] * gram[j][k];
      gram[i][j] = i == j ? std::sqrt(sum) : sum / gram[j][j];
    }
    for (int t = 0; t < S; ++t) {
      for (int k = 0; k < i; ++k) right[i][t] -= gram[i][k] * right[k][t];
      right[i][t] /= gram[i][i];
    }
  }
  for (int i = S - 1; i >= 0; --i) {
    for (int t = 0; t < S; ++t) {
      for (int k = i + 1; k < S; ++k) right[i][t] -= gram[k][i] * right[k][t];
      right[i][t] /= gram[i][i];
      basis[i * S + t] = static_cast<float>(right[i][t]);
    }
  }
}

}  // namespace

#define SD_API extern "C" __attribute__((visibility("default")))

/*! \brief Version of this interface. */
SD_API int sd_decompose_abi() { return 1; }

/*! \brief Best coefficients (n, rows, s) for targets, one basis (s, s) for every n; current may be
 * null. */
SD_API void sd_search_f32(const float* target, const float* basis, const float* current, float* out,
                          int64_t n, int64_t rows, int s, const float* ranked, int count,
                          int offset, const int* branches) {
  SearchAll(target, basis, current, out, n, rows, s, Levels{ranked, count, offset}, branches);
}

SD_API void sd_search_f64(const double* target, const double* basis, const double* current,
                          double* out, int64_t n, int64_t rows, int s, const float* ranked,
                          int count, int offset, const int* branches) {
  SearchAll(target, basis, current, out, n, rows, s, Levels{ranked, count, offset}, branches);
}

/*! \brief Alternating fit of n slices of rows: coefficients (n, rows, s) and bases (n, s, s). */
SD_API void sd_fit_slices(const float* slices, float* coef, float* basis, int64_t n, int64_t rows,
                          int s, const float* ranked, int count, int offset, const int* branches,
                          const double* factors, int n_factors, int rounds) {
  const Levels levels{ranked, count, offset};
  WithSize(s, [&](auto size) {
    constexpr int S = decltype(size)::value;
    for (int64_t i = 0; i < n; ++i) {
      const float* w = slices + i * rows * S;
      float* c = coef + i * rows * S;
      float* b = basis + i * S * S;
      const float step = FirstStep(w, rows * S, levels, factors, n_factors);
      for (int k = 0; k < S * S; ++k) b[k] = k % (S + 1) == 0 ? step : 0;
      SearchRows<S, float>(w, b, nullptr, c, rows, levels, branches);
      for (int round = 0; round < rounds; ++round) {
        Refit<S>(c, w, rows, b);
        SearchRows<S, float>(w, b, c, c, rows, levels, branches);
      }
    }
  });
}
