/* Homologous attention, Eq. 6, and its gradient on the CPU in float32.
 *
 * One head at a time stays in a core's cache. The scores are a dense product;
 * everything after TopK runs over the kept keys alone, which is where the time
 * is saved over plain attention. The forward keeps each query's threshold and
 * log-sum-exp; the backward computes the scores again by the same function, so
 * to the same bits, and never searches.
 *
 * Compiled by cpu_kernel.py; GNU C (vector_size) for gcc and clang.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define ROWS 4 /* queries whose scores are computed together */

typedef float vector __attribute__((vector_size(4 * LANES)));
/* The same in memory, at any address, where floats are read and written too. */
typedef float vector_in_memory
    __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* A (B, heads, N, D) tensor, D contiguous; strides count floats. */
typedef struct {
    float *data;
    int64_t batch, head, token;
} heads_t;

typedef struct {
    int64_t batch_size, num_heads, num_tokens, head_dim, topk;
    float scale;
    int32_t num_threads;
} problem_t;

static int64_t padded(int64_t length) {
    const int64_t unit = 2 * LANES;
    return (length + unit - 1) / unit * unit;
}

/* Not memcpy, which gcc compiles to copies through the stack, ten times as slow. */
static vector load(const float *from) {
    return *(const vector_in_memory *)from;
}

static void store(float *to, vector stored) {
    *(vector_in_memory *)to = stored;
}

static float add_lanes(vector added) {
    /* Eight partial sums, then four, in vectors of their own. */
    typedef float eight __attribute__((vector_size(32)));
    typedef float four __attribute__((vector_size(16)));
    eight eights[LANES / 8];
    memcpy(eights, &added, sizeof added);
    for (int i = 1; i < LANES / 8; i++) eights[0] += eights[i];
    four fours[2];
    memcpy(fours, eights, sizeof fours);
    fours[0] += fours[1];
    return (fours[0][0] + fours[0][1]) + (fours[0][2] + fours[0][3]);
}

/* ------------------------------------------------------------- packing */

static float *head_of(heads_t tensor, problem_t size, int64_t index) {
    return tensor.data + index / size.num_heads * tensor.batch +
           index % size.num_heads * tensor.head;
}

/* Copies one head to rows of zero-padded length. */
static void pack(heads_t tensor, problem_t size, int64_t index, float *rows) {
    const int64_t width = padded(size.head_dim);
    const float *head = head_of(tensor, size, index);
    for (int64_t i = 0; i < size.num_tokens; i++) {
        memcpy(rows + i * width, head + i * tensor.token,
               size.head_dim * sizeof(float));
        memset(rows + i * width + size.head_dim, 0,
               (width - size.head_dim) * sizeof(float));
    }
}

static void unpack(const float *rows, heads_t tensor, problem_t size,
                   int64_t index) {
    float *head = head_of(tensor, size, index);
    for (int64_t i = 0; i < size.num_tokens; i++)
        memcpy(head + i * tensor.token, rows + i * padded(size.head_dim),
               size.head_dim * sizeof(float));
}

/* (N, D) rows to (D, N) with zero-padded rows. */
static void transpose(const float *rows, problem_t size, float *transposed) {
    const int64_t width = padded(size.head_dim);
    const int64_t length = padded(size.num_tokens);
    memset(transposed, 0, size.head_dim * length * sizeof(float));
    for (int64_t j = 0; j < size.num_tokens; j++)
        for (int64_t d = 0; d < size.head_dim; d++)
            transposed[d * length + j] = rows[j * width + d];
}

/* -------------------------------------------------------------- scores */

/* Scores of ROWS queries against all keys, q k^T. Never inlined, so that
 * forward and backward run the same instructions. */
__attribute__((noinline)) static void
compute_scores(const float *query, const float *transposed_key, problem_t size,
               float *scores) {
    const int64_t width = padded(size.head_dim);
    const int64_t length = padded(size.num_tokens);
    for (int64_t j = 0; j < length; j += 2 * LANES) {
        vector sums[ROWS][2] = {{{0}}};
        for (int64_t d = 0; d < size.head_dim; d++) {
            const float *keys = transposed_key + d * length + j;
            const vector left = load(keys), right = load(keys + LANES);
            for (int row = 0; row < ROWS; row++) {
                sums[row][0] += query[row * width + d] * left;
                sums[row][1] += query[row * width + d] * right;
            }
        }
        for (int row = 0; row < ROWS; row++) {
            store(scores + row * length + j, sums[row][0]);
            store(scores + row * length + j + LANES, sums[row][1]);
        }
    }
}

/* ----------------------------------------------------------- selection */

/* Integers in the order of the floats they stand for, and back. */
static int32_t ordered_integer(float number) {
    int32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static float from_ordered_integer(int32_t ordered) {
    float number;
    ordered ^= (ordered >> 31) & 0x7fffffff;
    memcpy(&number, &ordered, sizeof number);
    return number;
}

/* Finds a threshold: scores below it are dropped, all others kept. By
 * bisection: counting what a candidate keeps is cheap, sorting is not. A NaN
 * is never below, so it is kept and reaches the output. Also finds the largest
 * score of the row. */
static float find_threshold(float *row, problem_t size, float *largest) {
    const int64_t num_keys = size.num_tokens;
    float lows[LANES], highs[LANES];
    for (int64_t j = num_keys; j < padded(num_keys); j++) row[j] = row[0];
    for (int lane = 0; lane < LANES; lane++) {
        lows[lane] = INFINITY;
        highs[lane] = -INFINITY;
    }
    for (int64_t j = 0; j < num_keys; j += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            const float score = row[j + lane];
            lows[lane] = score < lows[lane] ? score : lows[lane];
            highs[lane] = score > highs[lane] ? score : highs[lane];
        }
    float low = INFINITY, high = -INFINITY;
    for (int lane = 0; lane < LANES; lane++) {
        low = lows[lane] < low ? lows[lane] : low;
        high = highs[lane] > high ? highs[lane] : high;
    }
    *largest = high;
    /* `low` keeps at least topk scores, anything above `high` fewer. */
    for (int step = 0; low < high; step++) {
        float middle = 0.5f * low + 0.5f * high;
        /* Halving the value is quick for ordinary scores; halving the integer
         * bounds the search where scores tie, are infinite or tiny. */
        if (step >= 16 || !(middle > low && middle <= high)) {
            const int64_t integer = ordered_integer(low);
            const int64_t distance = ordered_integer(high) - integer;
            middle = from_ordered_integer(
                (int32_t)(integer + (distance + 1) / 2));
        }
        int32_t kept = 0;
        for (int64_t j = 0; j < num_keys; j++) kept += !(row[j] < middle);
        if (kept >= size.topk)
            low = middle;
        else
            high = from_ordered_integer(ordered_integer(middle) - 1);
        if (kept == size.topk) break;
    }
    return low;
}

/* Moves the kept scores to the front and lists their keys. */
static int64_t keep(float *row, problem_t size, float threshold,
                    int32_t *keys) {
    int64_t kept = 0;
    for (int64_t j = 0; j < size.num_tokens; j++) {
        const float score = row[j];
        row[kept] = score;
        keys[kept] = (int32_t)j;
        kept += !(score < threshold);
    }
    return kept;
}

/* exp(scale * number - shift), which is at most 1, with an error of 1e-7. Unlike
 * expf it vectorises. */
static void exponentiate(float *numbers, int64_t count, float scale,
                         float shift) {
    for (int64_t c = 0; c < count; c++) {
        float x = scale * numbers[c] - shift;
        x = x < -87.0f ? -87.0f : x; /* smaller ones underflow */
        const float power = rintf(x * 1.44269504f);
        /* ln 2 in two parts, the first exact in products. */
        const float rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;
        float taylor = 1.0f + rest / 7;
        for (int k = 6; k >= 1; k--) taylor = 1.0f + rest * (1.0f / k) * taylor;
        const int32_t bits = ((int32_t)power + 127) << 23;
        float two_to_the_power;
        memcpy(&two_to_the_power, &bits, sizeof bits);
        numbers[c] = taylor * two_to_the_power;
    }
}

/* Sum of a row, in an order that vectorises. Overwrites what follows the row. */
static float sum(float *numbers, int64_t count) {
    vector sums = {0};
    for (int64_t c = count; c % LANES; c++) numbers[c] = 0;
    for (int64_t c = 0; c < count; c += LANES) sums += load(numbers + c);
    return add_lanes(sums);
}

/* ------------------------------------------- products over kept keys */

/* sum_c weights[c] * rows[keys[c]] */
static void weighted_sum(const float *weights, const int32_t *keys,
                         int64_t count, const float *rows, int64_t width,
                         float *result) {
    for (int64_t d = 0; d < width; d += 2 * LANES) {
        vector left = {0}, right = {0};
        for (int64_t c = 0; c < count; c++) {
            const float *row = rows + keys[c] * width + d;
            left += weights[c] * load(row);
            right += weights[c] * load(row + LANES);
        }
        store(result + d, left);
        store(result + d + LANES, right);
    }
}

static float dot(const float *one, const float *other, int64_t width) {
    vector products = {0};
    for (int64_t d = 0; d < width; d += LANES)
        products += load(one + d) * load(other + d);
    return add_lanes(products);
}

static void add_scaled(float weight, const float *row, float *total,
                       int64_t width) {
    for (int64_t d = 0; d < width; d += LANES)
        store(total + d, load(total + d) + weight * load(row + d));
}

/* --------------------------------------------------------------- heads */

/* What one thread works in: (N, D) matrices with padded rows, one (D, N), the
 * scores of ROWS queries, and one query's kept keys with the gradients of
 * their scores. */
enum { QUERY, KEY, VALUE, OUTPUT, GRAD_OUTPUT = OUTPUT,
       GRAD_QUERY, GRAD_KEY, GRAD_VALUE, NUM_MATRICES };

typedef struct {
    float *matrix[NUM_MATRICES], *transposed_key, *scores, *grads;
    int32_t *keys;
} workspace_t;

static int64_t matrix_floats(problem_t size) {
    return (size.num_tokens + ROWS - 1) * padded(size.head_dim);
}

int64_t workspace_floats(problem_t size) {
    return NUM_MATRICES * matrix_floats(size) +
           (size.head_dim + ROWS + 2) * padded(size.num_tokens);
}

/* The workspace of this thread, with the queries, keys and values of a head. */
static workspace_t workspace_with(int64_t head, problem_t size, float *memory,
                                  heads_t query, heads_t key, heads_t value) {
    workspace_t work;
    memory += omp_get_thread_num() * workspace_floats(size);
    for (int i = 0; i < NUM_MATRICES; i++, memory += matrix_floats(size))
        work.matrix[i] = memory;
    work.transposed_key = memory;
    work.scores = memory + size.head_dim * padded(size.num_tokens);
    work.grads = work.scores + ROWS * padded(size.num_tokens);
    work.keys = (int32_t *)(work.grads + padded(size.num_tokens));
    pack(query, size, head, work.matrix[QUERY]);
    pack(key, size, head, work.matrix[KEY]);
    pack(value, size, head, work.matrix[VALUE]);
    transpose(work.matrix[KEY], size, work.transposed_key);
    return work;
}

/* The scores of query i. Those of ROWS queries are computed with the first of
 * them. */
static float *scores_of(int64_t i, problem_t size, workspace_t work) {
    if (i % ROWS == 0)
        compute_scores(work.matrix[QUERY] + i * padded(size.head_dim),
                       work.transposed_key, size, work.scores);
    return work.scores + i % ROWS * padded(size.num_tokens);
}

static void forward_head(int64_t head, problem_t size, workspace_t work,
                         heads_t output, float *thresholds,
                         float *logsumexps) {
    const int64_t width = padded(size.head_dim);
    for (int64_t i = 0; i < size.num_tokens; i++) {
        float *weights = scores_of(i, size, work), largest;
        const float threshold = find_threshold(weights, size, &largest);
        const int64_t kept = keep(weights, size, threshold, work.keys);
        largest *= size.scale;
        exponentiate(weights, kept, size.scale, largest);
        const float total = sum(weights, kept);
        for (int64_t c = 0; c < kept; c++) weights[c] /= total;
        weighted_sum(weights, work.keys, kept, work.matrix[VALUE], width,
                     work.matrix[OUTPUT] + i * width);
        thresholds[head * size.num_tokens + i] = threshold;
        logsumexps[head * size.num_tokens + i] = largest + logf(total);
    }
    unpack(work.matrix[OUTPUT], output, size, head);
}

static void backward_head(int64_t head, problem_t size, workspace_t work,
                          const float *thresholds, const float *logsumexps,
                          heads_t grad_query, heads_t grad_key,
                          heads_t grad_value) {
    const int64_t width = padded(size.head_dim);
    float **matrix = work.matrix;
    memset(matrix[GRAD_KEY], 0, matrix_floats(size) * sizeof(float));
    memset(matrix[GRAD_VALUE], 0, matrix_floats(size) * sizeof(float));
    for (int64_t i = 0; i < size.num_tokens; i++) {
        const float *query = matrix[QUERY] + i * width;
        const float *upstream = matrix[GRAD_OUTPUT] + i * width;
        float *weights = scores_of(i, size, work);
        const int64_t row = head * size.num_tokens + i;
        const int64_t kept = keep(weights, size, thresholds[row], work.keys);
        exponentiate(weights, kept, size.scale, logsumexps[row]);
        /* d softmax: P * (dP - sum(P * dP)) */
        float *grads = work.grads, mean = 0;
        for (int64_t c = 0; c < kept; c++) {
            const int64_t offset = work.keys[c] * width;
            grads[c] = dot(upstream, matrix[VALUE] + offset, width);
            add_scaled(weights[c], upstream, matrix[GRAD_VALUE] + offset, width);
            mean += weights[c] * grads[c];
        }
        for (int64_t c = 0; c < kept; c++) {
            const int64_t offset = work.keys[c] * width;
            grads[c] = weights[c] * (grads[c] - mean) * size.scale;
            add_scaled(grads[c], query, matrix[GRAD_KEY] + offset, width);
        }
        weighted_sum(grads, work.keys, kept, matrix[KEY], width,
                     matrix[GRAD_QUERY] + i * width);
    }
    unpack(matrix[GRAD_QUERY], grad_query, size, head);
    unpack(matrix[GRAD_KEY], grad_key, size, head);
    unpack(matrix[GRAD_VALUE], grad_value, size, head);
}

/* --------------------------------------------------------- entry points */

/* `memory` holds workspace_floats() zeros for each thread; thresholds and
 * logsumexps are (B, heads, N), contiguous. */
void forward(problem_t size, float *memory, heads_t query, heads_t key,
             heads_t value, heads_t output, float *thresholds,
             float *logsumexps) {
#pragma omp parallel for schedule(dynamic) num_threads(size.num_threads)
    for (int64_t head = 0; head < size.batch_size * size.num_heads; head++) {
        workspace_t work = workspace_with(head, size, memory, query, key, value);
        forward_head(head, size, work, output, thresholds, logsumexps);
    }
}

void backward(problem_t size, float *memory, heads_t grad_output,
              heads_t query, heads_t key, heads_t value,
              const float *thresholds, const float *logsumexps,
              heads_t grad_query, heads_t grad_key, heads_t grad_value) {
#pragma omp parallel for schedule(dynamic) num_threads(size.num_threads)
    for (int64_t head = 0; head < size.batch_size * size.num_heads; head++) {
        workspace_t work = workspace_with(head, size, memory, query, key, value);
        pack(grad_output, size, head, work.matrix[GRAD_OUTPUT]);
        backward_head(head, size, work, thresholds, logsumexps, grad_query,
                      grad_key, grad_value);
    }
}
