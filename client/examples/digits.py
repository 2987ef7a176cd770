"""Ten-fold cross-validation on scikit-learn's handwritten digits, a fold an item:

    peach run -n 4 -l digits.py score 0..9
"""
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

FOLDS = 10
images, labels = load_digits(return_X_y=True)
folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(images, labels))


def score(fold):
    """Accuracy on one fold of a classifier that was trained on the others."""
    train, test = folds[fold]
    model = SVC(gamma=0.001).fit(images[train], labels[train])
    return model.score(images[test], labels[test])
