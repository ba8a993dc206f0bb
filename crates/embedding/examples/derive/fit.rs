//! Fits static vectors of word pieces, so that their mean over a text is close to the sentence model's vector
//! of it.
//!
//! This is a linear least-squares problem with one row for each text, solved by conjugate gradients. Pieces
//! that rarely occur stay close to their initial vectors, which are the sentence model's vectors of the
//! pieces alone.
//!
//! The mean of all texts, and of all pieces, is subtracted first. It does not distinguish texts, and it would
//! dominate the vectors of many words of a query.

use vmcp_embedding::{MiniLm, tokenize};

use crate::weights::WIDTH;

/// Maximum number of texts to fit to.
const TEXTS_MAX: usize = 60_000;
/// The initial length of a piece's vector relative to a text's vector. It is above 1, because most pieces of
/// a text contribute less than the others.
const INITIAL_SCALE: f32 = 3.0;
/// The penalty for moving a piece away from its initial vector, as a number of texts that consist of this
/// piece alone.
const PRIOR_WEIGHT: f32 = 0.05;
/// The number of iterations, after which hardly anything changes.
const STEPS: usize = 12;

/// The vectors of all pieces of the vocabulary, row after row.
pub(crate) fn fit(lines: &[String], vocabulary: &str) -> Vec<f32> {
    let lines = &lines[..lines.len().min(TEXTS_MAX)];
    let texts: Vec<Vec<u16>> = lines.iter().map(|line| own_pieces(line)).collect();
    let alone: Vec<String> =
        vocabulary.lines().map(|piece| piece.trim_start_matches("##").to_owned()).collect();
    let mut words = embed(&alone);
    centre(&mut words);
    words.iter_mut().for_each(|value| *value *= INITIAL_SCALE);

    // The residual of the texts, propagated back to the pieces.
    let mut missing = embed(lines);
    centre(&mut missing);
    for (value, mean) in missing.iter_mut().zip(means(&texts, &words)) {
        *value -= mean;
    }
    let mut residue = spread(&texts, &missing, words.len());
    let mut direction = residue.clone();
    let mut squares = column_products(&residue, &residue);
    for step in 0..STEPS {
        let mut image = spread(&texts, &means(&texts, &direction), words.len());
        for (image, direction) in image.iter_mut().zip(&direction) {
            *image += PRIOR_WEIGHT * direction;
        }
        let steps = ratios(&squares, &column_products(&direction, &image));
        add(&mut words, &direction, &steps, 1.0);
        add(&mut residue, &image, &steps, -1.0);
        let before = std::mem::replace(&mut squares, column_products(&residue, &residue));
        let turns = ratios(&squares, &before);
        for (direction, residue) in direction.chunks_exact_mut(WIDTH).zip(residue.chunks_exact(WIDTH)) {
            for ((direction, residue), turn) in direction.iter_mut().zip(residue).zip(&turns) {
                *direction = residue + turn * *direction;
            }
        }
        println!("step {step}: {:.3e} is missing", squares.iter().sum::<f32>());
    }
    words
}

fn own_pieces(text: &str) -> Vec<u16> {
    let mut pieces = tokenize(text, 256);
    pieces.pop();
    pieces.drain(..pieces.len().min(1));
    pieces
}

/// The sentence model's vectors, computed on two threads.
fn embed(texts: &[String]) -> Vec<f32> {
    let model = MiniLm::new();
    let run = |texts: &[String]| -> Vec<f32> {
        texts.chunks(64).flat_map(|texts| model.vectors(texts).concat()).collect()
    };
    let (first, second) = texts.split_at(texts.len() / 2);
    std::thread::scope(|threads| {
        let first = threads.spawn(|| run(first));
        let second = run(second);
        let mut all = first.join().unwrap_or_default();
        all.extend(second);
        all
    })
}

/// Subtracts the mean of all rows from each row.
fn centre(rows: &mut [f32]) {
    let mut mean = vec![0.0; WIDTH];
    let share = WIDTH as f32 / rows.len() as f32;
    for row in rows.chunks_exact(WIDTH) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += share * value;
        }
    }
    for row in rows.chunks_exact_mut(WIDTH) {
        for (value, mean) in row.iter_mut().zip(&mean) {
            *value -= mean;
        }
    }
}

/// The mean of its pieces' rows, for each text.
fn means(texts: &[Vec<u16>], rows: &[f32]) -> Vec<f32> {
    let mut means = vec![0.0; texts.len() * WIDTH];
    for (text, mean) in texts.iter().zip(means.chunks_exact_mut(WIDTH)) {
        let share = 1.0 / text.len().max(1) as f32;
        for piece in text {
            let row = &rows[usize::from(*piece) * WIDTH..][..WIDTH];
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += share * value;
            }
        }
    }
    means
}

/// The transpose of [`means`]: distributes the values of each text among its pieces.
fn spread(texts: &[Vec<u16>], at_texts: &[f32], length: usize) -> Vec<f32> {
    let mut rows = vec![0.0; length];
    for (text, values) in texts.iter().zip(at_texts.chunks_exact(WIDTH)) {
        let share = 1.0 / text.len().max(1) as f32;
        for piece in text {
            let row = &mut rows[usize::from(*piece) * WIDTH..][..WIDTH];
            for (sum, value) in row.iter_mut().zip(values) {
                *sum += share * value;
            }
        }
    }
    rows
}

fn column_products(left: &[f32], right: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; WIDTH];
    for (left, right) in left.chunks_exact(WIDTH).zip(right.chunks_exact(WIDTH)) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    sums
}

fn ratios(over: &[f32], under: &[f32]) -> Vec<f32> {
    over.iter().zip(under).map(|(over, under)| if *under > 0.0 { over / under } else { 0.0 }).collect()
}

fn add(to: &mut [f32], rows: &[f32], factors: &[f32], sign: f32) {
    for (to, row) in to.chunks_exact_mut(WIDTH).zip(rows.chunks_exact(WIDTH)) {
        for ((to, value), factor) in to.iter_mut().zip(row).zip(factors) {
            *to += sign * factor * value;
        }
    }
}
